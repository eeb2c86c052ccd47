"""The interface of a driver: it runs jobs on one kind of engine."""

from collections.abc import Sequence
from typing import Protocol

from millstream.common.chunk import Chunk
from millstream.common.errors import MillstreamError
from millstream.worker.engines.base import EngineStats
from millstream.worker.jobs.circuit_breaker import CircuitBreaker
from millstream.worker.jobs.running_jobs import RunningJob
from millstream.worker.jobs.speed import SpeedMeter


class JobControl(Protocol):
    """The interface through which a driver tells what became of a job."""

    pace: SpeedMeter
    health: CircuitBreaker

    def ring(self) -> None:
        """Something was drafted that Redis should have."""
        ...

    def end(self, job: RunningJob, chunks: Sequence[Chunk]) -> None:
        """Ends a job well; the last chunk has the finish reason and the usage."""
        ...

    def fail(self, job: RunningJob, error: MillstreamError) -> None:
        """Ends a job with an error."""
        ...


class Driver(Protocol):
    """Runs the jobs of one model. `steps` tells whether its engine steps by itself, so that one that makes no step with
    work to do counts as hung."""

    steps: bool

    @property
    def slots(self) -> int:
        """Returns how many jobs may be held at once now."""
        ...

    def start(self) -> None:
        """Begin; called on the event loop."""
        ...

    async def run(self, job: RunningJob, logged: Sequence[Chunk]) -> None:
        """Runs a job, at least until the engine has it; `logged` is what earlier leases wrote. Raises
        `MillstreamError`, of which `UpstreamLost` means that the job is to go on elsewhere."""
        ...

    def forget(self, job: RunningJob) -> None:
        """Make the engine stop with a job; one that it does not have is fine."""
        ...

    def pause_if(self, away: bool) -> None:
        """Tells whether Redis is away for long, so that nothing more should be made."""
        ...

    def stats(self) -> EngineStats: ...

    @property
    def broken(self) -> BaseException | None:
        """Returns why the engine can do no more, or None while it can."""
        ...
