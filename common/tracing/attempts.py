"""The spans of one job: each wait in the queue and each attempt of a worker, as the leases in the job's hash tell them.

A worker that was killed cannot write its spans. So their ids follow from the leases, and whoever ends an attempt writes
it together with the lost ones directly before it (docs/decisions/queue/0056-spans-of-the-dead.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from millstream.common.job import (
    AudioInput,
    ChatPrompt,
    ClassifyInput,
    EmbedInput,
    FillInput,
    JobInput,
    JobRequest,
    RerankInput,
    TextPrompt,
    TokenizeInput,
    TokensPrompt,
)
from millstream.common.leases import LeaseSpan
from millstream.common.tracing.context import TraceContext, derived_span
from millstream.common.tracing.span import AttributeValue, SpanRecord

OPERATIONS: Mapping[type[JobInput], str] = {
    ChatPrompt: "chat",
    TextPrompt: "text_completion",
    TokensPrompt: "text_completion",
    AudioInput: "transcription",
    EmbedInput: "embeddings",
    RerankInput: "rerank",
    ClassifyInput: "classify",
    FillInput: "fill_mask",
    TokenizeInput: "tokenize",
}
LONGEST_NAME = 256  # characters of a model's name, which a client may have invented
NEVER = "never"  # stands for the lease that a wait did not end with


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an attempt: in one word how, when (Redis time, seconds), and what its span tells beside. `error` is
    empty if it was no failure."""

    name: str
    until: float
    error: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])


@dataclass(frozen=True, slots=True)
class TracedJob:
    """One job of a trace: the span of its request, when it was submitted (Redis time, seconds), the leases it has had,
    and what each of its spans tells."""

    id: str
    parent: TraceContext
    submitted: float
    leases: Sequence[LeaseSpan]
    attributes: Mapping[str, AttributeValue]

    def ended(self, at: int, outcome: Outcome) -> list[SpanRecord]:
        """Returns the spans of attempt `at`, which ended so, and of the lost attempts directly before it, each with the
        wait before it."""
        return [*self.lost(at), self.wait(at), self._attempt(at, outcome)]

    def lost(self, before: int) -> list[SpanRecord]:
        """Returns the spans of the lost attempts directly before attempt `before`, each with the wait before it."""
        first = before
        while first > 0 and self.leases[first - 1].lost:
            first -= 1
        told: list[SpanRecord] = []
        for at in range(first, before):
            why: dict[str, AttributeValue] = {"error.type": "worker_lost"}
            lost = Outcome("lost", self.leases[at].until or self.leases[at].since, "worker lost", why)
            told += [self.wait(at), self._attempt(at, lost)]
        return told

    def wait(self, at: int, until: float = 0.0) -> SpanRecord:
        """Returns the span of the wait before attempt `at`; of one that did not come, the wait until `until`."""
        came = at < len(self.leases)
        start = (self.leases[at - 1].until or self.leases[at - 1].since) if at else self.submitted
        end = self.leases[at].since if came else until
        lease = self.leases[at].lease if came else NEVER
        return SpanRecord(
            name="queue wait",
            kind="internal",
            trace_id=self.parent.trace_id,
            span_id=self._id("wait", lease),
            parent_id=self.parent.span_id,
            start=start,
            end=max(start, end),
            attributes={**self.attributes, "millstream.attempt": at + 1},
            error="" if came else "no worker took it any more",
        )

    def _attempt(self, at: int, outcome: Outcome) -> SpanRecord:
        lease = self.leases[at]
        about: dict[str, AttributeValue] = {
            "millstream.attempt": at + 1,
            "millstream.worker.id": lease.worker,
            "millstream.lease": lease.lease,
            "millstream.chunks_before": lease.after,
            "millstream.outcome": outcome.name,
        }
        return SpanRecord(
            name=f"attempt {at + 1}",
            kind="consumer",
            trace_id=self.parent.trace_id,
            span_id=self._id("attempt", lease.lease),
            parent_id=self.parent.span_id,
            start=lease.since,
            end=max(lease.since, outcome.until),
            attributes={**self.attributes, **about, **outcome.attributes},
            error=outcome.error,
            links=(self._id("attempt", self.leases[at - 1].lease),) if at else (),
        )

    def _id(self, what: str, lease: str) -> str:
        return derived_span(self.parent.trace_id, self.id, what, lease)


def about_request(model: str, request: JobRequest) -> dict[str, AttributeValue]:
    """Returns what spans tell of a request, by the names of OpenTelemetry's conventions for generative AI."""
    sampling = request.sampling
    told: dict[str, AttributeValue] = {
        "gen_ai.operation.name": OPERATIONS[type(request.input)],
        "gen_ai.provider.name": "millstream",
        "gen_ai.request.model": model[:LONGEST_NAME],
    }
    if isinstance(request.input, ChatPrompt | TextPrompt | TokensPrompt):
        told |= {"gen_ai.request.temperature": sampling.temperature, "gen_ai.request.top_p": sampling.top_p}
        told |= {"gen_ai.request.seed": sampling.seed}
        if sampling.max_tokens is not None:
            told["gen_ai.request.max_tokens"] = sampling.max_tokens
    return told


def traced_job(
    id: str, model: str, request: JobRequest, submitted: float, leases: Sequence[LeaseSpan]
) -> TracedJob | None:
    """Returns the job as its trace tells it; None for one whose trace is not recorded."""
    parent = TraceContext.of(request.traceparent)
    if parent is None or not parent.sampled:
        return None
    return TracedJob(id, parent, submitted, leases, {**about_request(model, request), "millstream.job.id": id})
