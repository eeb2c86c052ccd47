"""The jobs that an admitted request follows, its own or an earlier one's: admitted, followed, looked up."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

import msgspec

from millstream.common.chunk import NOTHING_YET, Seq
from millstream.common.errors import BadRequest, StreamLost
from millstream.common.job import JobId, ModelName, Tier
from millstream.common.request_id import RequestId, checksum, request_of
from millstream.gateway.queue.client import Admission, QueueClient, Submission
from millstream.gateway.queue.sink import ChunkSink, LoggedChunk
from millstream.gateway.requests.event_id import EventIds, parse_event_id
from millstream.gateway.requests.prepared import PreparedRequest
from millstream.gateway.requests.response_meta import ResponseMeta

_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """`after` holds, per job, the seq of the last chunk the client has had."""

    id: RequestId
    model: ModelName
    tenant: str
    tier: Tier
    jobs: list[JobId]
    after: list[Seq]
    admission: Admission | None = None  # None: resumed by Last-Event-ID, nothing was submitted
    exactness: str = ""  # how exact a continuation may be, as the worker said: `common.job.Exactness`

    @property
    def resumed(self) -> bool:
        """Tells whether the client has had a part of the stream."""
        return any(self.after)

    @property
    def repeated(self) -> bool:
        """Tells whether the jobs are those of an earlier request with the same idempotency key."""
        return self.admission is not None and self.admission.outcome == "duplicate"

    def found(self, begun: bool) -> bool:
        """Tells whether there certainly is such a model. What was submitted had one; a `Last-Event-ID` may be invented,
        until something of its stream was read (`begun`). Only then may a label bear the name."""
        return self.admission is not None or begun

    def head(self) -> ResponseMeta:
        """Returns the metadata with which the answer begins; the same on every gateway and at every resumption."""
        return ResponseMeta(self.id.text, self.id.created, self.model, self.tier)

    def headers(self) -> dict[str, str]:
        """Returns what the response says before its first chunk: who serves, the id to cancel by, how long it may
        wait."""
        headers = {"openai-model": _in_a_header(self.model), "x-millstream-request": self.id.text}
        if self.exactness:
            headers["x-millstream-exactness"] = self.exactness
        if self.admission is not None:
            headers |= self.admission.headers
        if self.admission is not None and self.admission.outcome == "queued":
            headers["x-millstream-queue-position"] = str(self.admission.position)
            if self.admission.wait is not None:
                headers["x-millstream-queue-wait"] = f"{self.admission.wait:.1f}"
            if self.admission.workers == 0:
                headers["x-millstream-workers"] = "0"
        return headers


def _in_a_header(name: str) -> str:
    """Returns a name as a header can carry it: percent-encoded, unless it is of visible ASCII alone."""
    return name if name.isascii() and name.isprintable() else quote(name, safe=_VISIBLE)


async def admit(queue: QueueClient, order: PreparedRequest) -> AdmittedRequest:
    """Submits a new request; one with a `Last-Event-ID` goes on with its jobs and submits nothing. Raises what
    `QueueClient.submit` raises, `BadRequest` for an id that is none."""
    place = order.caller.last_event_id
    if place is not None:
        return _resumed(order, parse_event_id(place))
    admission = await queue.submit(_as_read(order))
    identity = order.id if admission.outcome != "duplicate" else request_of(admission.jobs[0])
    return _admitted(order, identity, admission.jobs, admission=admission)


async def admit_anew(queue: QueueClient, order: PreparedRequest) -> AdmittedRequest:
    """Submits a retry anew whose first try was given up (its client had timed out): it wants an answer, not that try's
    end."""
    admission = await queue.submit(replace(_as_read(order), idempotency_key=None))
    return _admitted(order, order.id, admission.jobs, admission=admission)


def _as_read(order: PreparedRequest) -> Submission:
    """Returns the submission that says how its answer is read: what is no stream is read as a whole, or later."""
    if order.stream:
        return order.submission
    jobs = [(id, msgspec.structs.replace(request, watched=False)) for id, request in order.submission.jobs]
    return replace(order.submission, jobs=jobs)


async def follow(
    queue: QueueClient, admitted: AdmittedRequest, sinks: Sequence[ChunkSink], after: Sequence[Seq] = ()
) -> None:
    """Follows the request's jobs, each into its sink, until all have ended. Raises the first failure and follows none
    of them any more. One job, the usual case, costs no task."""
    places = after or [NOTHING_YET] * len(admitted.jobs)
    model, tenant = admitted.model, admitted.tenant
    each = [
        queue.follow(model, job, sink, tenant=tenant, after=seq)
        for job, sink, seq in zip(admitted.jobs, sinks, places, strict=True)
    ]
    if len(each) == 1:
        await each[0]
        return
    tasks = [asyncio.create_task(one) for one in each]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def chunk_after(queue: QueueClient, admitted: AdmittedRequest, choice: int, after: Seq) -> LoggedChunk | None:
    """Returns one chunk that the client has had, from the log; None if the job ended before it: that place is the usage
    event's. Raises `StreamLost` if it is there no more, and what `QueueClient.logged` raises."""
    if found := await _one_after(queue, admitted, choice, after):
        return found
    before = await _one_after(queue, admitted, choice, Seq(after - 1)) if after > NOTHING_YET else None
    if before is None or not before[1].last:
        raise StreamLost(f"Chunk {after + 1} of `{admitted.jobs[choice]}` is no longer in its log.")
    return None


async def _one_after(queue: QueueClient, admitted: AdmittedRequest, choice: int, after: Seq) -> LoggedChunk | None:
    job = admitted.jobs[choice]
    found = await queue.logged(admitted.model, job, tenant=admitted.tenant, after=after, most=1)
    return found[0] if found else None


def _resumed(order: PreparedRequest, event_ids: EventIds) -> AdmittedRequest:
    model = order.submission.model
    if event_ids.request.model != checksum(model):
        message = f"Invalid 'Last-Event-ID': that stream is not one of the model '{model}'."
        raise BadRequest(message, param="Last-Event-ID")
    after = event_ids.seqs if order.stream else None  # a whole answer is always whole
    return _admitted(order, event_ids.request, event_ids.request.jobs(), after)


def _admitted(
    order: PreparedRequest,
    identity: RequestId,
    jobs: list[JobId],
    after: list[Seq] | None = None,
    admission: Admission | None = None,
) -> AdmittedRequest:
    submission = order.submission
    begin = after or [NOTHING_YET] * len(jobs)
    return AdmittedRequest(identity, submission.model, submission.tenant, submission.tier, jobs, begin, admission)
