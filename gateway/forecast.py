"""How long a job that waits now will wait: the backlog over the measured service rate."""

from time import monotonic

from common.broker.connect import Broker
from common.broker.directory import ModelInfo, model_info
from common.job import ModelName

FRESH = 1.0  # seconds a model's figures are used again
LEAST, MOST, UNKNOWN = 1.0, 600.0, 5.0  # seconds: bounds of an estimate, and the answer while nothing is measured


def service_rate(info: ModelInfo) -> float:
    """Jobs per second that the model's live workers can finish together; 0 while none was measured."""
    return sum(
        worker.slots / seconds
        for worker in info.workers
        if worker.alive and (seconds := float(worker.details.get("job_seconds") or 0)) > 0
    )


def estimate(ahead: int, rate: float) -> float:
    """Seconds until `ahead` jobs have been served at `rate` jobs/s."""
    if rate <= 0:
        return UNKNOWN
    return min(max(ahead / rate, LEAST), MOST)


class Forecast:
    """Estimates from figures at most `FRESH` seconds old."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._rates: dict[ModelName, tuple[float, float]] = {}

    async def wait(self, model: ModelName, ahead: int) -> float:
        """Seconds until a slot frees for a job with `ahead` jobs before it. Raises `RedisAway`."""
        asked, rate = self._rates.get(model, (0.0, 0.0))
        if monotonic() - asked > FRESH:
            rate = service_rate(await model_info(self._broker, model))
            self._rates[model] = (monotonic(), rate)
        return estimate(ahead, rate)
