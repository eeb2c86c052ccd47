"""Every metric of the gateway, with its unit and what it tells."""

from functools import cache
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from millstream.common.chunk import Usage

PREFIX = "millstream_gateway_"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


Labelled = TypeVar("Labelled", Counter, Histogram)


def quick(metric: Labelled) -> Labelled:
    """Returns the same metric, whose `labels` remembers: the library formats and locks anew at each of a request's five
    calls."""
    metric.labels = cache(metric.labels)  # pyright: ignore[reportAttributeAccessIssue] (it returns what it did before)
    return metric


class Metrics:
    """One gateway process's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "HTTP requests answered, by route and status.", "route", "status")
        self.head_seconds = self._seconds(
            "head_seconds", "Seconds from a request's arrival to its status line, by route.", "route"
        )
        self.first_chunk_seconds = self._seconds(
            "first_chunk_seconds",
            "Seconds from submit to a request's first chunk, by model: waiting and prompt processing.",
            "model",
        )
        self.open_requests = Gauge(
            f"{PREFIX}open_requests", "HTTP requests being answered now.", registry=self.registry
        )
        self.prompt_tokens = self._counter(
            "prompt_tokens", "Prompt tokens of requests that ended well, by model and tenant.", "model", "tenant"
        )
        self.completion_tokens = self._counter(
            "completion_tokens",
            "Completion tokens of requests that ended well, by model and tenant.",
            "model",
            "tenant",
        )
        self.failures = self._counter("failures", "Requests that failed, by error code.", "code")
        self.departures = self._counter(
            "departures", "Clients that left before their answer was complete, by model.", "model"
        )
        self.answers = self._counter(
            "answers", "Answers begun, by model and how exactly they could be gone on with.", "model", "exactness"
        )
        self.resumptions = self._counter(
            "resumptions", "Streams gone on with by Last-Event-ID or Idempotency-Key, by model.", "model"
        )
        self.tools_left_out = self._counter(
            "tools_left_out", "Requests whose offer of a hosted tool was left out, by the tool's family.", "family"
        )

    def _counter(self, name: str, tells: str, *labels: str) -> Counter:
        return quick(Counter(PREFIX + name, tells, labels, registry=self.registry))

    def _seconds(self, name: str, tells: str, *labels: str) -> Histogram:
        return quick(Histogram(PREFIX + name, tells, labels, buckets=SECONDS, registry=self.registry))

    def count(self, model: str, tenant: str, usage: Usage) -> None:
        """Counts a request that ended well."""
        self.prompt_tokens.labels(model, tenant).inc(usage.prompt)
        self.completion_tokens.labels(model, tenant).inc(usage.completion)

    def text(self) -> bytes:
        """Returns the metrics as Prometheus reads them."""
        return generate_latest(self.registry)
