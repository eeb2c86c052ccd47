"""Settings every process shares. Frozen, prefix `MILLSTREAM_`, read once at a composition root and passed down."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClusterSettings(BaseSettings):
    """What all processes of one cluster must agree on. Each field is also a flag of the commands (`--redis-url`)."""

    model_config = SettingsConfigDict(env_prefix="MILLSTREAM_", frozen=True, extra="ignore")

    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="Where the queue lives: redis://, rediss://, redis+sentinel://host:port,host:port/SERVICE or "
        "redis+cluster://host:port.",
    )
    lease: float = Field(
        default=5.0,
        gt=0,
        description="Heartbeat timeout in seconds: a worker silent for so long is evicted and its jobs move on.",
    )
    max_attempts: int = Field(
        default=3, ge=1, description="A job whose workers died so often is failed and kept for an operator."
    )
    retention: float = Field(
        default=600.0, gt=0, description="Seconds a finished job and its chunk log are kept, for replay and resumption."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="Logs: readable on a terminal, JSON elsewhere (auto), or always one of the two."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe event logged."
    )
