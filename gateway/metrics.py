"""Every metric of the gateway, with its unit and what it tells."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from common.chunk import Usage

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """One gateway process's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "millstream_gateway_requests",
            "HTTP requests answered, by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.head_seconds = Histogram(
            "millstream_gateway_head_seconds",
            "Seconds from a request's arrival to its status line, by route.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.first_chunk_seconds = Histogram(
            "millstream_gateway_first_chunk_seconds",
            "Seconds from submit to a request's first chunk, by model: waiting and prompt processing.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.open_requests = Gauge(
            "millstream_gateway_open_requests", "HTTP requests being answered now.", registry=self.registry
        )
        self.prompt_tokens = Counter(
            "millstream_gateway_prompt_tokens",
            "Prompt tokens of requests that ended well, by model and tenant.",
            ["model", "tenant"],
            registry=self.registry,
        )
        self.completion_tokens = Counter(
            "millstream_gateway_completion_tokens",
            "Completion tokens of requests that ended well, by model and tenant.",
            ["model", "tenant"],
            registry=self.registry,
        )
        self.failures = Counter(
            "millstream_gateway_failures", "Requests that failed, by error code.", ["code"], registry=self.registry
        )
        self.departures = Counter(
            "millstream_gateway_departures",
            "Clients that left before their answer was complete, by model.",
            ["model"],
            registry=self.registry,
        )
        self.resumptions = Counter(
            "millstream_gateway_resumptions",
            "Streams gone on with by Last-Event-ID or Idempotency-Key, by model.",
            ["model"],
            registry=self.registry,
        )

    def count(self, model: str, tenant: str, usage: Usage) -> None:
        """A request that ended well."""
        self.prompt_tokens.labels(model, tenant).inc(usage.prompt)
        self.completion_tokens.labels(model, tenant).inc(usage.completion)

    def text(self) -> bytes:
        """What Prometheus scrapes."""
        return generate_latest(self.registry)
