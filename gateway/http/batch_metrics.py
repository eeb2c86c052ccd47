"""Figures of the batches that are not over, read from Redis when Prometheus asks: background processes open no port."""

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from millstream.common.broker.records.batches import Batches
from millstream.gateway.records.batches import Batch


class BatchFigures(Collector):
    """The batches as they are now."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields two families: batches by status, and their lines by what became of them."""
        statuses = Counter(batch.status for batch in self._batches)
        family = GaugeMetricFamily("millstream_batches", "Batches that are not over, by status.", labels=["status"])
        for status, count in sorted(statuses.items()):
            family.add_metric([status], count)
        yield family
        lines = GaugeMetricFamily("millstream_batch_lines", "Lines of batches that are not over.", labels=["outcome"])
        completed, failed, total = (
            sum(batch.number(name) for batch in self._batches) for name in ("completed", "failed", "total")
        )
        for outcome, count in (("completed", completed), ("failed", failed), ("open", total - completed - failed)):
            lines.add_metric([outcome], count)
        yield lines


async def batch_text(batches: Batches | None) -> bytes:
    """Returns the figures of batches as Prometheus reads them. Raises `Unavailable`."""
    if batches is None:
        return b""
    states = [Batch(batch, await batches.state(batch)) for batch in await batches.active()]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BatchFigures([batch for batch in states if batch.state]))
    return generate_latest(registry)
