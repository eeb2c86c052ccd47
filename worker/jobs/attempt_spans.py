"""The spans of the attempts that end at this worker, written when Redis has taken the end: only then nobody else will
write them."""

from collections.abc import Sequence

import msgspec
import structlog

from millstream.common.chunk import Chunk, Usage, decode_chunk
from millstream.common.job import ChatPrompt, JobRequest, TextPrompt
from millstream.common.leases import LeaseSpan, lease_spans
from millstream.common.tracing.attempts import Outcome, traced_job
from millstream.common.tracing.span import AttributeValue, SpanWriter
from millstream.worker.jobs.running_jobs import Leaving, RunningJob

MOST_CONTENT = 65536  # characters of a request's or an answer's texts in a span; the rest is left out
log = structlog.stdlib.get_logger(part="traces")
decode_usage = msgspec.json.Decoder(Usage).decode


class AttemptSpans:
    """Told of each job that leaves this worker. `content`: its spans tell prompts and answers, too."""

    def __init__(self, writer: SpanWriter, *, content: bool = False) -> None:
        self._writer = writer
        self._content = content

    def tell(self, job: RunningJob, why: Leaving) -> None:
        """Writes the spans of a job's attempt here, and of the lost ones before it. Never raises: who tells of a job's
        end has more to do than that."""
        try:
            self._tell(job, why)
        except Exception:
            log.exception("attempt_not_traced", **job.facts)

    def _tell(self, job: RunningJob, why: Leaving) -> None:
        claimed = job.claimed
        leases = lease_spans(claimed.leases)
        traced = traced_job(claimed.id, claimed.model, claimed.request, claimed.submitted_ms / 1000, leases)
        if traced is None or not leases:
            return
        at = place_of(claimed.lease, leases)
        for span in traced.ended(at, self._outcome(job, why, leases[at].since + job.age)):
            self._writer.write(span)

    def _outcome(self, job: RunningJob, why: Leaving, until: float) -> Outcome:
        told: dict[str, AttributeValue] = {"millstream.tokens_made": job.made}
        if job.first_after is not None:
            told["millstream.first_token_after"] = round(job.first_after, 6)
        if job.end is None or why != "ended":
            return Outcome(why, until, attributes=told)
        usage = decode_usage(job.end.usage)
        told |= {"gen_ai.usage.input_tokens": usage.prompt, "gen_ai.usage.output_tokens": usage.completion}
        if usage.cached:
            told["gen_ai.usage.cache_read.input_tokens"] = usage.cached
        if usage.reasoning:
            told["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning
        told["gen_ai.response.model"] = job.claimed.model
        if job.end.state == "finished":
            told["gen_ai.response.finish_reasons"] = [job.end.finish]
        if self._content:
            told |= content_of(job.claimed.request, [decode_chunk(raw) for raw in job.written], job.end.finish)
        error = _failure(job) if job.end.state == "failed" else ""
        return Outcome(job.end.state, until, error, told | ({"error.type": error} if error else {}))


def place_of(lease: str, leases: Sequence[LeaseSpan]) -> int:
    """Returns which of a job's leases this is. One that the worker got anew for a job that it held already has no entry
    of its own: it goes on with the last."""
    return next((at for at, each in enumerate(leases) if each.lease == lease), len(leases) - 1)


def _failure(job: RunningJob) -> str:
    error = decode_chunk(job.written[-1]).error if job.written else None
    return error.code if error is not None else "failed"


def content_of(request: JobRequest, chunks: Sequence[Chunk], finish: str) -> dict[str, AttributeValue]:
    """Returns the prompt and the answer as OpenTelemetry's conventions for generative AI tell them: lists of messages,
    as JSON. Images and other parts that are no text are left out."""
    told: dict[str, AttributeValue] = {}
    match request.input:
        case ChatPrompt(messages=messages):
            asked = [(str(each.get("role", "")), each.get("content")) for each in messages]
        case TextPrompt(text=text):
            asked = [("user", text)]
        case _:
            asked = []
    if asked:
        told["gen_ai.input.messages"] = _messages([(role, text) for role, text in asked if isinstance(text, str)])
    if answer := "".join(chunk.text for chunk in chunks):
        told["gen_ai.output.messages"] = _messages([("assistant", answer)], finish)
    return told


def _messages(texts: Sequence[tuple[str, str]], finish: str = "") -> str:
    left, told = MOST_CONTENT, list[dict[str, object]]()
    for role, text in reversed(texts):  # the newest are what the answer is to
        if left <= 0:
            break
        message: dict[str, object] = {"role": role, "parts": [{"type": "text", "content": text[:left]}]}
        told.append({**message, "finish_reason": finish} if finish else message)
        left -= len(text)
    return msgspec.json.encode(told[::-1]).decode()
