"""The interface of a driver: it runs jobs on one kind of engine."""

from collections.abc import Sequence
from typing import Protocol

from millstream.common.chunk import Chunk
from millstream.common.errors import Interrupted, MillstreamError
from millstream.worker.engines.base import EngineStats, ModelCard, UpstreamLost
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

    def give_back(self, job: RunningJob, error: UpstreamLost) -> None:
        """Lets a job go on elsewhere, or here later."""
        ...


def check_same_model(logged: Sequence[Chunk], card: ModelCard) -> None:
    """Raises `Interrupted` for an answer that another model began: going on with it here would be a splice."""
    began = logged[0].start.fingerprint if logged and logged[0].start is not None else ""
    if len(logged) > 1 and began and card.fingerprint and began != card.fingerprint:
        raise Interrupted(
            f"What computed this answer died in the middle of it. It was begun by {began}, and the worker that would "
            f"go on is {card.fingerprint}: another model, engine or number type. Send the request again."
        )


class Driver(Protocol):
    """Runs the jobs of one model. `steps` tells whether its engine steps by itself, so that one that makes no step with
    work to do counts as hung."""

    card: ModelCard

    @property
    def steps(self) -> bool: ...

    @property
    def slots(self) -> int:
        """Returns how many jobs may be held at once now."""
        ...

    def start(self) -> None:
        """Begins the work. To be called on the event loop."""
        ...

    async def run(self, job: RunningJob, logged: Sequence[Chunk]) -> None:
        """Runs a job, at least until the engine has it; `logged` is what earlier leases wrote. Raises
        `MillstreamError`, of which `UpstreamLost` means that the job is to go on elsewhere."""
        ...

    def forget(self, job: RunningJob) -> None:
        """Makes the engine stop with a job; one that it does not have is fine."""
        ...

    def pause_if(self, away: bool) -> None:
        """Tells whether Redis is away for long, so that nothing more should be made."""
        ...

    def stats(self) -> EngineStats: ...

    @property
    def broken(self) -> BaseException | None:
        """Returns why the engine can do no more, or None while it can."""
        ...
