"""The time that a job which waits now will wait: the jobs before it over the measured service rate."""

from dataclasses import dataclass
from time import monotonic

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.models.directory import ModelInfo, model_info
from millstream.common.broker.models.load_requests import loading_stage
from millstream.common.job import ModelName
from millstream.common.single_flight import SingleFlight
from millstream.gateway.queue.client import Waiting

FRESH = 1.0  # seconds a model's figures are used again
LEAST, MOST = 1.0, 600.0  # seconds: bounds of an estimate


@dataclass(frozen=True, slots=True)
class Service:
    """The service a model's workers can give: jobs/s of all together (0: not measured), and how many are alive (None:
    not known). If none is, the stage at which a worker that loads the model is (empty: none loads it)."""

    rate: float
    workers: int | None
    loading: str = ""

    def waiting(self, position: int) -> Waiting:
        """Returns what a job at that place of the queue is told."""
        return Waiting(position, estimate(position, self.rate), self.workers, self.loading)


UNKNOWN = Service(0.0, None)


def service(info: ModelInfo, loading: str = "") -> Service:
    """Returns the service of these workers. A live worker finishes a job per slot in its smoothed time of a job. One
    that was not measured yet counts like the mean of the others, one that takes no jobs (sick, draining) not at all."""
    takers = [worker for worker in info.workers if worker.alive and worker.details.get("state", "ready") == "ready"]
    times = {worker.id: float(worker.details.get("job_seconds") or 0) for worker in takers}
    known = [worker for worker in takers if times[worker.id] > 0]
    rate = sum(worker.slots / times[worker.id] for worker in known)
    known_slots = sum(worker.slots for worker in known)
    if known_slots:
        rate *= sum(worker.slots for worker in takers) / known_slots
    return Service(rate, info.live, loading)


def estimate(ahead: int, rate: float) -> float | None:
    """Returns the seconds until `ahead` jobs have been served at `rate` jobs/s; None if no rate was measured."""
    return min(max(ahead / rate, LEAST), MOST) if rate > 0 else None


class WaitEstimator:
    """Estimates from figures at most `FRESH` seconds old."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._seen: dict[ModelName, tuple[float, Service]] = {}
        self._look = SingleFlight(self._service)

    async def service(self, model: ModelName) -> Service:
        """Returns the service as far as is known: while Redis is away, what it said last."""
        asked, found = self._seen.get(model, (0.0, UNKNOWN))
        if asked and monotonic() - asked <= FRESH:
            return found
        try:
            return await self._look(model)
        except RedisAway:
            return found

    async def _service(self, model: ModelName) -> Service:
        info = await model_info(self._broker, model)
        found = service(info, "" if info.live else await loading_stage(self._broker, model))
        self._seen[model] = (monotonic(), found)
        return found

    async def wait(self, model: ModelName, ahead: int) -> float | None:
        """Returns the seconds until a slot frees for a job with `ahead` jobs to be served, itself included; None: not
        known."""
        return estimate(ahead, (await self.service(model)).rate)
