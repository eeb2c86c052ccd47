"""What `millstream chaos` is told."""

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from millstream.common.settings import Settings

Fault = Literal[
    "worker-kill",
    "worker-freeze",
    "worker-drain",
    "gateway-kill",
    "redis-restart",
    "redis-truncate",
    "redis-freeze",
    "pubsub-drop",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)


class ChaosSettings(Settings):
    """A cluster of its own, clients that check every token, and faults at random moments."""

    model_config = SettingsConfigDict(env_prefix="MILLSTREAM_CHAOS_")

    seconds: float = Field(default=60.0, gt=0, description="How long clients ask and faults strike.")
    clients: int = Field(default=16, ge=1, description="Streams open at every moment.")
    slow: float = Field(default=0.1, ge=0, le=1, description="Part of the clients that read slowly.")
    leaving: float = Field(default=0.1, ge=0, le=1, description="Part of the clients that leave in mid-stream.")
    faults: list[Fault] = Field(default=list(FAULTS), description="Which faults strike.")
    pause: float = Field(default=2.0, ge=0, description="Seconds between two faults, on average.")
    gateways: int = Field(default=2, ge=1, description="Gateway processes.")
    workers: int = Field(default=3, ge=1, description="Worker processes.")
    supervise: bool = Field(default=True, description="Workers run under their supervisor.")
    lease: float = Field(default=2.0, gt=0, description="Heartbeat timeout in seconds.")
    rate: float = Field(default=50.0, gt=0, description="Tokens per second of a stream.")
    longest: int = Field(default=400, ge=10, description="Tokens of the longest answer.")
    seed: int | None = Field(default=None, description="Of the random choices; unset: a new one, shown at the start.")
    directory: Path | None = Field(default=None, description="Where logs are kept; unset: nowhere.")
