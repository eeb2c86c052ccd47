"""A ticket: the jobs a request follows, its own or an earlier one's; and the desk that issues it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from millstream.common.chunk import NOTHING_YET, Chunk, Seq
from millstream.common.errors import BadRequest, StreamLost
from millstream.common.job import JobId, ModelName, Tier
from millstream.common.request_id import RequestId, checksum, request_of
from millstream.gateway.connection.direct_write import Express
from millstream.gateway.queue.client import Admission, Dispatch, Offer, Waiting
from millstream.gateway.queue.merge import Flow, Follower
from millstream.gateway.requests.event_id import Places, parse_place
from millstream.gateway.requests.prepared import Order
from millstream.gateway.requests.response_meta import Head


@dataclass(frozen=True, slots=True)
class Ticket:
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
        """Whether the client has had a part of the stream."""
        return any(self.after)

    @property
    def repeated(self) -> bool:
        """Whether the jobs are those of an earlier request with the same idempotency key."""
        return self.admission is not None and self.admission.outcome == "duplicate"

    def head(self) -> Head:
        """What the answer begins with; the same on every gateway and at every resumption."""
        return Head(self.id.text, self.id.created, self.model, self.tier)

    def headers(self) -> dict[str, str]:
        """What the response says before its first chunk: who serves, the id to cancel by, how long it may wait."""
        headers = {"openai-model": self.model, "x-millstream-request": self.id.text}
        if self.admission is not None:
            headers |= self.admission.headers
        if self.admission is not None and self.admission.outcome == "queued":
            headers["x-millstream-queue-position"] = str(self.admission.position)
            if self.admission.wait is not None:
                headers["x-millstream-queue-wait"] = f"{self.admission.wait:.1f}"
            if self.admission.workers == 0:
                headers["x-millstream-workers"] = "0"
        return headers


class Desk:
    """The gateway's counter to the queue."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    async def admit(self, order: Order) -> Ticket:
        """A new request is submitted; one with a `Last-Event-ID` goes on with its jobs and submits nothing. Raises
        what `Dispatch.submit` raises, `BadRequest` for a place that is none."""
        place = order.caller.last_event_id
        if place is not None:
            return _resumed(order, parse_place(place))
        admission = await self._dispatch.submit(order.submission)
        identity = order.id if admission.outcome != "duplicate" else request_of(admission.jobs[0])
        return _ticket(order, identity, admission.jobs, admission=admission)

    async def again(self, order: Order) -> Ticket:
        """A retry whose first try was given up (its client had timed out) wants an answer, not that try's end."""
        admission = await self._dispatch.submit(replace(order.submission, idempotency_key=None))
        return _ticket(order, order.id, admission.jobs, admission=admission)

    def follow(self, ticket: Ticket, after: Sequence[Seq], express: Express | None = None) -> Flow:
        """The ticket's jobs as one flow."""
        places = zip(ticket.jobs, after, strict=True)
        offers = [partial(express.take, choice) if express else None for choice in range(len(ticket.jobs))]
        return Flow([self._follower(ticket, job, seq, offers[at]) for at, (job, seq) in enumerate(places)])

    def _follower(self, ticket: Ticket, job: JobId, after: Seq, express: Offer | None) -> Follower:
        found = self._dispatch.follow(ticket.model, job, tenant=ticket.tenant, after=after, express=express)
        # Whoever implements Dispatch writes an async generator, which can be closed; the contract names the iterator.
        return cast(Follower, found)

    async def chunk_after(self, ticket: Ticket, choice: int, after: Seq) -> tuple[Seq, Chunk] | None:
        """One chunk that the client has had, from the log; None if the job ended before it: that place is the usage
        event's. Raises `StreamLost` if it is there no more, and what `Dispatch.logged` raises."""
        if found := await self._one_after(ticket, choice, after):
            return found
        before = await self._one_after(ticket, choice, Seq(after - 1)) if after > NOTHING_YET else None
        if before is None or not before[1].last:
            raise StreamLost(f"Chunk {after + 1} of `{ticket.jobs[choice]}` is no longer in its log.")
        return None

    async def _one_after(self, ticket: Ticket, choice: int, after: Seq) -> tuple[Seq, Chunk] | None:
        job = ticket.jobs[choice]
        found = await self._dispatch.logged(ticket.model, job, tenant=ticket.tenant, after=after, most=1)
        return found[0] if found else None

    async def logged(self, ticket: Ticket) -> list[Chunk]:
        """What the first job's log has now."""
        found = await self._dispatch.logged(ticket.model, ticket.jobs[0], tenant=ticket.tenant)
        return [chunk for _, chunk in found]

    def waiting(self, ticket: Ticket) -> Waiting | None:
        """How the request waits: its first job's place; None once it runs."""
        return self._dispatch.waiting(ticket.jobs[0])

    async def leave(self, ticket: Ticket) -> None:
        """Its client waits no more for the jobs. Another one may: a retry that came before the first try was missed."""
        await self._dispatch.leave(ticket.model, ticket.jobs)

    async def cancel(self, ticket: Ticket) -> None:
        """Nobody is to wait for the jobs any more."""
        await self._dispatch.cancel(ticket.model, ticket.jobs)


def _resumed(order: Order, places: Places) -> Ticket:
    model = order.submission.model
    if places.request.model != checksum(model):
        message = f"Invalid 'Last-Event-ID': that stream is not one of the model '{model}'."
        raise BadRequest(message, param="Last-Event-ID")
    after = places.seqs if order.stream else None  # a whole answer is always whole
    return _ticket(order, places.request, places.request.jobs(), after)


def _ticket(
    order: Order,
    identity: RequestId,
    jobs: list[JobId],
    after: list[Seq] | None = None,
    admission: Admission | None = None,
) -> Ticket:
    submission = order.submission
    begin = after or [NOTHING_YET] * len(jobs)
    return Ticket(identity, submission.model, submission.tenant, submission.tier, jobs, begin, admission)
