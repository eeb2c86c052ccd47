"""Every metric of the gateway, with its unit and what it tells."""

from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import accumulate
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from millstream.common.chunk import Usage
from millstream.gateway.queue.job_times import JobTimes

PREFIX = "millstream_gateway_"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


GAPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labelled = TypeVar("Labelled", Counter, Histogram)


def quick(metric: Labelled) -> Labelled:
    """Returns the same metric, whose `labels` remembers: the library formats and locks anew at each of a request's five
    calls."""
    metric.labels = cache(metric.labels)  # pyright: ignore[reportAttributeAccessIssue] (it returns what it did before)
    return metric


class TokenGaps(Collector):
    """The histogram of the gaps between chunks, filled by whole jobs at once: a hundred thousand gaps a second would
    cost the library's own histogram a tenth of a core."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, Tally[int]] = defaultdict(Tally)
        self._sums: defaultdict[str, float] = defaultdict(float)

    def observe(self, model: str, gaps: Sequence[float]) -> None:
        """Counts a job's gaps, in seconds."""
        if gaps:
            self._counts[model].update(map(partial(bisect_left, GAPS), gaps))
            self._sums[model] += sum(gaps)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yields the histogram."""
        tells = "Seconds between two chunks under one lease, from the first token on, by model."
        family = HistogramMetricFamily(f"{PREFIX}token_gap_seconds", tells, labels=["model"])
        bounds = [*map(str, GAPS), "+Inf"]
        for model, counts in self._counts.items():
            totals = accumulate(counts[place] for place in range(len(bounds)))
            family.add_metric([model], list(zip(bounds, totals, strict=True)), self._sums[model])
        yield family


class Metrics:
    """One gateway process's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "HTTP requests answered, by route and status.", "route", "status")
        self.head_seconds = self._seconds(
            "head_seconds", "Seconds from a request's arrival to its status line, by route.", "route"
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
        self.spans_lost = self._counter("trace_spans_lost", "Spans that no receiver took.")
        self._declare_times()

    def _declare_times(self) -> None:
        """Declares the figures of single jobs, which their streams tell when they end."""
        of_jobs = ("model", "tier")
        self.queue_wait = self._seconds(
            "queue_wait_seconds",
            "Seconds from submit until a worker has accepted the prompt, by model and tier.",
            *of_jobs,
        )
        self.first_token = self._seconds(
            "first_token_seconds", "Seconds from submit to the first token, by model and tier.", *of_jobs
        )
        self.answer_seconds = self._seconds(
            "answer_seconds", "Seconds from submit to the end of an answer, by model and tier.", *of_jobs
        )
        self.failover_gap = self._seconds(
            "failover_gap_seconds",
            "Seconds of silence between two leases of a job, by model.",
            "model",
        )
        self.lost_frames = self._counter(
            "lost_frames", "Times that frames were found missing, by model and by what showed it.", "model", "sign"
        )
        self.repaired_chunks = self._counter(
            "repaired_chunks",
            "Chunks read from the log, by model: a frame had not come, or a client was slow.",
            "model",
        )
        self.token_gaps = TokenGaps()
        self.registry.register(self.token_gaps)

    def observe(self, times: JobTimes) -> None:
        """Counts the times of one job that is over, or whose reader left."""
        model = times.model
        for histogram, seconds in (
            (self.queue_wait, times.wait),
            (self.first_token, times.first_token),
            (self.answer_seconds, times.answer),
        ):
            if seconds is not None:
                histogram.labels(model, times.tier).observe(seconds)
        for silence in times.silences:
            self.failover_gap.labels(model).observe(silence)
        self.token_gaps.observe(model, times.gaps)
        for sign, count in times.losses.items():
            self.lost_frames.labels(model, sign).inc(count)
        if times.repaired:
            self.repaired_chunks.labels(model).inc(times.repaired)

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
