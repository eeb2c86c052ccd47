"""Figures of the Redis servers that the jobs lie in, from their own INFO: enough to see them fill up or fall silent."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from millstream.common.broker.models.inspection import ServerFigures

REDIS = "millstream_redis_"

# Fields of INFO: name there, name here, what it tells.
GAUGES = (
    ("used_memory", "memory_used_bytes", "Memory that the server's data takes."),
    ("maxmemory", "memory_limit_bytes", "Its limit; 0: none."),
    ("connected_clients", "connections", "Open connections."),
    ("connected_slaves", "replicas", "Replicas connected to it."),
    ("aof_enabled", "append_only", "1 if it writes an append-only file: without one a restart loses all jobs."),
    ("loading", "loading", "1 while it reads its data from disk."),
)
COUNTERS = (
    ("total_commands_processed", "commands", "Commands processed."),
    ("evicted_keys", "evicted_keys", "Keys thrown away for want of memory: any is a lost job or answer."),
    ("aof_delayed_fsync", "delayed_fsyncs", "Writes that waited for the disk."),
    ("total_net_output_bytes", "sent_bytes", "Bytes sent."),
    ("rejected_connections", "rejected_connections", "Connections refused at its limit (maxclients)."),
)


class RedisFigures(Collector):
    """The servers as they were a moment ago."""

    def __init__(self, servers: Sequence[ServerFigures]) -> None:
        self._servers = servers

    def collect(self) -> Iterator[Metric]:
        """Yields every family, also those without a sample."""
        tells = "Seconds until it answered INFO, as this gateway saw it."
        answer = GaugeMetricFamily(f"{REDIS}answer_seconds", tells, labels=["server"])
        for each in self._servers:
            answer.add_metric([each.name], each.seconds)
        yield answer
        for kind, fields in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for field, name, told in fields:
                family = kind(REDIS + name, told, labels=["server"])
                for each in self._servers:
                    family.add_metric([each.name], float(each.info.get(field) or 0))
                yield family


def redis_text(servers: Sequence[ServerFigures]) -> bytes:
    """Returns the figures as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RedisFigures(servers))
    return generate_latest(registry)
