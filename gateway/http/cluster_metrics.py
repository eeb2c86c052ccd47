"""Every metric of the cluster, with its unit and what it tells, read from the heartbeats at each scrape."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from millstream.common.broker.models.directory import ModelInfo, WorkerInfo

MODEL, WORKER = "millstream_model_", "millstream_worker_"

# Fields of the heartbeat: name there, name here, what it tells. Counters begin anew with each worker process.
GAUGES = (
    ("running", "running", "Sequences in the engine."),
    ("kv_use", "kv_cache_use_ratio", "Part of the key-value cache in use, 0 to 1."),
    ("prefix_hit_rate", "prefix_hit_ratio", "Part of the prompt tokens served from the prefix cache, 0 to 1."),
    ("job_seconds", "job_seconds", "Seconds of a job from claim to end, smoothed."),
)
COUNTERS = (
    ("steps", "engine_steps", "Iterations of the engine's batch."),
    ("tokens", "tokens", "Completion tokens made."),
    ("continued", "continued_answers", "Answers gone on with that another lease began."),
    ("wasted", "tokens_after_client_left", "Completion tokens made for jobs that nobody wanted any more."),
)


class ClusterFigures(Collector):
    """The census as metrics."""

    def __init__(self, models: Sequence[ModelInfo]) -> None:
        self._models = models

    def collect(self) -> Iterable[Metric]:
        yield self._of_models("waiting_jobs", "Jobs that wait for a slot.", [model.waiting for model in self._models])
        yield self._of_models("live_workers", "Workers whose lease is fresh.", [model.live for model in self._models])
        alive = [worker for model in self._models for worker in model.workers if worker.alive]
        yield from self._of_workers(alive)

    def _of_models(self, name: str, tells: str, values: Sequence[int]) -> Metric:
        family = GaugeMetricFamily(MODEL + name, tells, labels=["model"])
        for model, value in zip(self._models, values, strict=True):
            family.add_metric([model.name], value)
        return family

    def _of_workers(self, workers: Sequence[WorkerInfo]) -> Iterator[Metric]:
        yield _family(GaugeMetricFamily, "load", "Jobs it holds.", [(each, each.load) for each in workers])
        yield _family(GaugeMetricFamily, "slots", "Jobs it can run at once.", [(each, each.slots) for each in workers])
        speeds = [(each, each.speed) for each in workers]
        yield _family(GaugeMetricFamily, "speed", "Tokens per second of all its slots, measured and smoothed.", speeds)
        for kind, fields in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for field, name, tells in fields:
                yield _family(kind, name, tells, [(each, float(each.details.get(field) or 0)) for each in workers])


def _family(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    tells: str,
    values: Sequence[tuple[WorkerInfo, float]],
) -> Metric:
    family = kind(WORKER + name, tells, labels=["model", "worker"])
    for worker, value in values:
        family.add_metric([worker.model, worker.id], value)
    return family


def cluster_text(models: Sequence[ModelInfo]) -> bytes:
    """Returns the cluster's figures as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ClusterFigures(models))
    return generate_latest(registry)
