"""The settings of `millstream chaos`."""

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
    "background-kill",
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
    background: int = Field(default=2, ge=0, description="Background processes; without them no batches are asked for.")
    batches: int = Field(default=2, ge=0, description="Batches and background responses under way at every moment.")
    whole: int = Field(default=3, ge=0, description="Answers not streamed that are under way at every moment.")
    workers: int = Field(default=3, ge=1, description="Worker processes.")
    supervise: bool = Field(default=True, description="Workers run under their supervisor.")
    lease: float = Field(default=2.0, gt=0, description="Heartbeat timeout in seconds.")
    rate: float = Field(default=50.0, gt=0, description="Tokens per second of a stream.")
    longest: int = Field(default=400, ge=10, description="Tokens of the longest answer.")
    seed: int | None = Field(default=None, description="Of the random choices; unset: a new one, shown at the start.")
    directory: Path | None = Field(default=None, description="Where logs are kept; unset: nowhere.")

    @property
    def at_once(self) -> int:
        """Answers that are under way at every moment, but for the lines of batches, which take what is left."""
        return self.clients + self.whole + (2 * self.batches if self.background else 0)
