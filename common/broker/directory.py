"""Who serves what, read from Redis: models, their workers, and how long each queue is."""

from dataclasses import dataclass, field

from common.job import ModelName, WorkerId


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker as its last heartbeat told, for one model."""

    id: WorkerId
    model: ModelName
    alive: bool
    load: int  # jobs it holds now
    slots: int
    speed: float  # tokens/s, smoothed; 0: not measured yet
    details: dict[str, str] = field(default_factory=dict[str, str])  # the rest of the heartbeat hash


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model that has (or had) workers. `card` is the newest worker's, empty when all are gone."""

    name: ModelName
    workers: list[WorkerInfo]
    waiting: int  # jobs in the backlog and in resume
    engine: str = ""
    context_length: int = 0
    fingerprint: str = ""
    capabilities: tuple[str, ...] = ()
    created: int = 0  # seconds since the epoch: when its oldest live worker started

    @property
    def live(self) -> int:
        """How many workers serve it now."""
        return sum(worker.alive for worker in self.workers)
