"""Metrics of the jobs that wait, and of what happened to the workers."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from millstream.common.broker.models.directory import ModelInfo
from millstream.common.broker.models.inspection import Backlog
from millstream.common.job import ModelName
from millstream.gateway.queue.wait_estimate import service

MODEL = "millstream_model_"
ASSUMED = 10.0  # seconds of a job while none was measured, one at a time: enough for an autoscaler to start a worker


class BacklogFigures(Collector):
    """The backlogs, beside the census, which knows how fast the workers are."""

    def __init__(self, backlogs: Sequence[Backlog], models: Sequence[ModelInfo]) -> None:
        self._backlogs = backlogs
        self._models = {model.name: model for model in models}

    def collect(self) -> Iterator[Metric]:
        """Yields every family, also those without a sample."""
        yield self._one("backlog_seconds", "Seconds until what waits is served, at the measured rate.", self._seconds())
        oldest = {each.model: each.oldest for each in self._backlogs}
        yield self._one("oldest_wait_seconds", "Seconds that the job which waits longest has waited.", oldest)
        yield self._many("tier_waiting_jobs", "Jobs that wait, by tier; resumed: begun before.", "tier")
        yield self._many("tenant_waiting_jobs", "Jobs that wait, by tenant.", "tenant")
        yield self._evictions()
        fenced = CounterMetricFamily(
            f"{MODEL}fenced_writes", "Writes of workers refused, as the job had moved on or was over.", labels=["model"]
        )
        for each in self._backlogs:
            fenced.add_metric([each.model], each.fenced)
        yield fenced

    def _seconds(self) -> dict[ModelName, float]:
        found = ((each.model, self._models.get(each.model)) for each in self._backlogs)
        return {name: backlog_seconds(model) for name, model in found if model is not None}

    def _one(self, name: str, tells: str, values: Mapping[ModelName, float]) -> Metric:
        family = GaugeMetricFamily(MODEL + name, tells, labels=["model"])
        for model, value in values.items():
            family.add_metric([model], value)
        return family

    def _many(self, name: str, tells: str, label: str) -> Metric:
        family = GaugeMetricFamily(MODEL + name, tells, labels=["model", label])
        for each in self._backlogs:
            for key, value in sorted((each.tiers if label == "tier" else each.tenants).items()):
                family.add_metric([each.model, key], value)
        return family

    def _evictions(self) -> Metric:
        tells = "Workers evicted: lease (ran out), died (seen to), left (in good order)."
        family = CounterMetricFamily(f"{MODEL}evictions", tells, labels=["model", "cause"])
        for each in self._backlogs:
            for cause in ("lease", "died", "left"):
                family.add_metric([each.model, cause], each.evicted.get(cause, 0))
        return family


def backlog_seconds(model: ModelInfo) -> float:
    """Returns the seconds in which its live workers would serve what waits. What counts is a worker's measured time of
    a job, so a slow model has more of them than a quick one with as many jobs; while nothing was measured, or no worker
    lives, each job counts `ASSUMED`."""
    rate = service(model).rate
    return model.waiting / rate if rate > 0 else model.waiting * ASSUMED


def backlog_text(backlogs: Sequence[Backlog], models: Sequence[ModelInfo]) -> bytes:
    """Returns the backlogs as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BacklogFigures(backlogs, models))
    return generate_latest(registry)
