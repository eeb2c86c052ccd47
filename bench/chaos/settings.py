"""The settings of `millstream chaos`."""

from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from millstream.common.settings import Settings

Topology = Literal["single", "sentinel"]
Fault = Literal[
    "worker-kill",
    "worker-freeze",
    "worker-drain",
    "gateway-kill",
    "gateway-freeze",
    "background-kill",
    "redis-restart",
    "redis-truncate",
    "redis-freeze",
    "redis-failover",
    "redis-half-open",
    "reply-lost",
    "pubsub-drop",
    "client-half-open",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
# With Sentinels everybody asks them for the address, and so past any proxy; a lost tail there is a fail-over's.
NOT_IN: dict[Topology, frozenset[Fault]] = {
    "single": frozenset({"redis-failover"}),
    "sentinel": frozenset({"redis-truncate", "redis-half-open", "reply-lost"}),
}
# After these the server may have forgotten what it had acknowledged.
FORGETFUL: dict[Topology, frozenset[Fault]] = {
    "single": frozenset({"redis-truncate"}),
    "sentinel": frozenset({"redis-failover", "redis-restart", "redis-freeze"}),
}


class ChaosSettings(Settings):
    """A cluster of its own, clients that check every token, and faults at random moments."""

    model_config = SettingsConfigDict(env_prefix="MILLSTREAM_CHAOS_")

    seconds: float = Field(default=60.0, gt=0, description="How long clients ask and faults strike.")
    clients: int = Field(default=16, ge=1, description="Streams open at every moment.")
    slow: float = Field(default=0.1, ge=0, le=1, description="Part of the clients that read slowly.")
    leaving: float = Field(default=0.1, ge=0, le=1, description="Part of the clients that leave in mid-stream.")
    topology: Topology = Field(default="single", description="One Redis, or a primary, its replica and 3 Sentinels.")
    faults: list[Fault] = Field(default=[], description="Which faults strike; unset: all that the topology knows.")
    faults_per_minute: float = Field(default=20.0, gt=0, description="How many faults strike, on average.")
    two_at_once: float = Field(default=0.25, ge=0, le=1, description="Part of the moments at which two faults strike.")
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

    @model_validator(mode="after")
    def _faults_are_known(self) -> Self:
        if wrong := NOT_IN[self.topology] & set(self.faults):
            raise ValueError(f"there is no {', '.join(sorted(wrong))} with the topology {self.topology}")
        return self

    @property
    def striking(self) -> list[Fault]:
        """Returns the faults that strike."""
        return self.faults or [fault for fault in FAULTS if fault not in NOT_IN[self.topology]]

    @property
    def forgetful(self) -> frozenset[Fault]:
        """Returns the faults after which Redis may have forgotten what it had acknowledged."""
        return FORGETFUL[self.topology]

    @property
    def at_once(self) -> int:
        """Answers that are under way at every moment, but for the lines of batches, which take what is left."""
        return self.clients + self.whole + (2 * self.batches if self.background else 0)
