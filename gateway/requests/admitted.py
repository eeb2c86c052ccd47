"""The jobs that an admitted request follows, its own or an earlier one's; and the desk that admits requests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast
from urllib.parse import quote

from millstream.common.chunk import NOTHING_YET, Chunk, Seq
from millstream.common.errors import BadRequest, StreamLost
from millstream.common.job import JobId, ModelName, Tier
from millstream.common.request_id import RequestId, checksum, request_of
from millstream.gateway.connection.direct_write import DirectWrite
from millstream.gateway.queue.client import Admission, DirectSink, QueueClient, Waiting
from millstream.gateway.queue.merge import ChunkSource, MergedStream
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


class Desk:
    """The gateway's counter to the queue."""

    def __init__(self, queue: QueueClient) -> None:
        self._queue = queue

    async def admit(self, order: PreparedRequest) -> AdmittedRequest:
        """Submits a new request; one with a `Last-Event-ID` goes on with its jobs and submits nothing. Raises what
        `QueueClient.submit` raises, `BadRequest` for an id that is none."""
        place = order.caller.last_event_id
        if place is not None:
            return _resumed(order, parse_event_id(place))
        admission = await self._queue.submit(order.submission)
        identity = order.id if admission.outcome != "duplicate" else request_of(admission.jobs[0])
        return _admitted(order, identity, admission.jobs, admission=admission)

    async def again(self, order: PreparedRequest) -> AdmittedRequest:
        """Submits a retry anew whose first try was given up (its client had timed out): it wants an answer, not that
        try's end."""
        admission = await self._queue.submit(replace(order.submission, idempotency_key=None))
        return _admitted(order, order.id, admission.jobs, admission=admission)

    def follow(
        self, admitted: AdmittedRequest, after: Sequence[Seq], direct: DirectWrite | None = None
    ) -> MergedStream:
        """Returns the request's jobs as one merged stream."""
        event_ids = zip(admitted.jobs, after, strict=True)
        offers = [partial(direct.take, choice) if direct else None for choice in range(len(admitted.jobs))]
        return MergedStream([self._follower(admitted, job, seq, offers[at]) for at, (job, seq) in enumerate(event_ids)])

    def _follower(self, admitted: AdmittedRequest, job: JobId, after: Seq, direct: DirectSink | None) -> ChunkSource:
        found = self._queue.follow(admitted.model, job, tenant=admitted.tenant, after=after, direct=direct)
        # Whoever implements Dispatch writes an async generator, which can be closed; the contract names the iterator.
        return cast(ChunkSource, found)

    async def chunk_after(self, admitted: AdmittedRequest, choice: int, after: Seq) -> tuple[Seq, Chunk] | None:
        """Returns one chunk that the client has had, from the log; None if the job ended before it: that place is the
        usage event's. Raises `StreamLost` if it is there no more, and what `QueueClient.logged` raises."""
        if found := await self._one_after(admitted, choice, after):
            return found
        before = await self._one_after(admitted, choice, Seq(after - 1)) if after > NOTHING_YET else None
        if before is None or not before[1].last:
            raise StreamLost(f"Chunk {after + 1} of `{admitted.jobs[choice]}` is no longer in its log.")
        return None

    async def _one_after(self, admitted: AdmittedRequest, choice: int, after: Seq) -> tuple[Seq, Chunk] | None:
        job = admitted.jobs[choice]
        found = await self._queue.logged(admitted.model, job, tenant=admitted.tenant, after=after, most=1)
        return found[0] if found else None

    async def logged(self, admitted: AdmittedRequest) -> list[Chunk]:
        """Returns what the first job's log has now."""
        found = await self._queue.logged(admitted.model, admitted.jobs[0], tenant=admitted.tenant)
        return [chunk for _, chunk in found]

    def waiting(self, admitted: AdmittedRequest) -> Waiting | None:
        """Returns how the request waits: its first job's place; None once it runs."""
        return self._queue.waiting(admitted.jobs[0])

    async def leave(self, admitted: AdmittedRequest) -> None:
        """Tells that this client waits no more for the jobs. Another client may wait: a retry that came before the
        gateway noticed that the first try had gone."""
        await self._queue.leave(admitted.model, admitted.jobs)

    async def cancel(self, admitted: AdmittedRequest) -> None:
        """Cancels the jobs, whoever waits for them."""
        await self._queue.cancel(admitted.model, admitted.jobs)


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
