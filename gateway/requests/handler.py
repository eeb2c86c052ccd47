"""One request being answered: admitted, followed, written as a stream or as a whole, given up if its client leaves."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from millstream.common.chunk import NOTHING_YET, Seq
from millstream.common.errors import Cancelled, LogExpired, MillstreamError, NotFound, Unavailable, from_failure
from millstream.gateway.connection.disconnect import Client, ClientGone
from millstream.gateway.connection.sse import STOPPING, CutOff
from millstream.gateway.queue.merge import Flow
from millstream.gateway.requests.accumulator import Fold
from millstream.gateway.requests.admitted import Desk, Ticket
from millstream.gateway.requests.prepared import Order
from millstream.gateway.requests.presenter import Presenter
from millstream.gateway.requests.response_meta import Head
from millstream.gateway.requests.streaming import Streaming
from millstream.gateway.requests.usage import total
from millstream.gateway.services.services import Rooms

SHORTEST = 2  # chunks of the shortest job: its start and its end


@dataclass(frozen=True, slots=True)
class Answer:
    """How one API writes its answers."""

    whole: Callable[[Head, list[Fold]], dict[str, Any]]
    stream: Callable[[Head], Presenter] | None = None  # None: this API answers only as a whole
    ended: Callable[[Ticket, bool], Awaitable[None]] | None = None  # told whether the answer was complete


class Exchange:
    """The life of one request in this gateway."""

    def __init__(self, rooms: Rooms, request: Request, *, resumable: bool) -> None:
        self._rooms = rooms
        self._client = Client(request, rooms.farewells.served)
        self._resumable = resumable
        self._desk = Desk(rooms.cluster.dispatch)

    async def admit(self, order: Order) -> Ticket:
        """The jobs to follow: the order's own, or an earlier request's."""
        ticket = await self._desk.admit(order)
        if ticket.admission is None or ticket.repeated:
            self._rooms.metrics.resumptions.labels(ticket.model).inc()
        return ticket

    async def answer(self, order: Order, answer: Answer, ticket: Ticket | None = None) -> Response:
        """Raises what keeps the answer from beginning; a stream's later failure is its last event."""
        admitted = ticket or await self.admit(order)
        reply = self.whole if answer.stream is None or not order.stream else self.stream
        try:
            return await reply(answer, admitted)
        except NotFound as error:
            if admitted.admission is not None or time.time() - admitted.id.created < self._rooms.settings.retention:
                raise
            raise LogExpired(error.message, param=error.param) from None
        except Cancelled as error:
            if isinstance(error, ClientGone) or not admitted.repeated:
                raise
        return await reply(answer, await self._desk.again(order))

    async def whole(self, answer: Answer, ticket: Ticket) -> Response:
        """All of it at once."""
        folds = await self.folds(ticket)
        body = msgspec.json.encode(answer.whole(ticket.head(), folds))
        if answer.ended is not None:
            await answer.ended(ticket, True)
        return Response(body, media_type="application/json", headers=ticket.headers())

    async def folds(self, ticket: Ticket) -> list[Fold]:
        """Every job's chunks, folded. Raises a job's failure, `ClientGone`."""
        flow = self._desk.follow(ticket, [NOTHING_YET] * len(ticket.jobs))
        try:
            with self._client:
                folds = await fold_all(flow, len(ticket.jobs))
        except BaseException as error:
            await self._abandon(ticket, flow, error)
            raise
        self._client.release()
        await flow.aclose()
        self._rooms.metrics.count(ticket.model, ticket.tenant, total([fold.usage for fold in folds], len(folds)))
        return folds

    async def stream(self, answer: Answer, ticket: Ticket) -> Response:
        """As it comes, behind what the client has had."""
        assert answer.stream is not None
        presenter = answer.stream(ticket.head())
        after = ticket.after
        if presenter.needs_history:
            after = [NOTHING_YET] * len(ticket.jobs)
        elif ticket.resumed:
            await self._reread_start(ticket, presenter)
            after = [await self._within(ticket, choice) for choice in range(len(ticket.jobs))]
        flow = self._desk.follow(ticket, after, self._client.express)
        try:
            with self._client:
                await self._begin(ticket, flow)
        except BaseException as error:
            await self._abandon(ticket, flow, error)
            raise
        streaming = Streaming(self._rooms, ticket, flow, presenter, self._client, resumable=self._resumable)
        return streaming.response(answer.ended)

    async def _reread_start(self, ticket: Ticket, presenter: Presenter) -> None:
        """The first chunk says who computes, and every event repeats it."""
        for choice, seq in enumerate(ticket.after):
            found = await self._desk.chunk_after(ticket, choice, NOTHING_YET) if seq > NOTHING_YET else None
            if found is not None:
                presenter.event(choice, found[1], b"")
                return

    async def _within(self, ticket: Ticket, choice: int) -> Seq:
        """Where the log goes on for a choice. The usage event's place is one behind the last chunk: there is none."""
        had = ticket.after[choice]
        if had < SHORTEST + 1:
            return had
        found = await self._desk.chunk_after(ticket, choice, Seq(had - 2))
        return Seq(had - 1) if found is not None and found[1].finish is not None else had

    async def _begin(self, ticket: Ticket, flow: Flow) -> None:
        """Waits for the first chunk, for a while, so that a failure at the start is an HTTP error. Raises it."""
        began = time.monotonic()
        first = await flow.look(self._rooms.settings.first_chunk_wait)
        if first is None:
            return
        self._rooms.metrics.first_chunk_seconds.labels(ticket.model).observe(time.monotonic() - began)
        if (opening := first[1][0][1].error) is not None:
            raise from_failure(opening)
        given_up = any(chunk.error is not None and chunk.error.code == Cancelled.code for _, chunk in first[1])
        if ticket.repeated and given_up:
            raise Cancelled("The earlier request with this idempotency key was cancelled.")

    async def _abandon(self, ticket: Ticket, flow: Flow, error: BaseException) -> None:
        self._client.release()
        await flow.aclose()
        if isinstance(error, asyncio.CancelledError | CutOff):
            # This process stops, the jobs run on: a retry finds them.
            raise Unavailable(STOPPING, retry_after=1) from None
        if isinstance(error, ClientGone):
            self._rooms.metrics.departures.labels(ticket.model).inc()
            if self._resumable:
                return
        if isinstance(error, MillstreamError) and not isinstance(error, ClientGone) and len(ticket.jobs) == 1:
            return  # the job itself ended
        await self._desk.leave(ticket)


def exchange(rooms: Rooms, request: Request, order: Order) -> Exchange:
    """The exchange of a request that is an order."""
    return Exchange(rooms, request, resumable=order.caller.resumable)


async def fold_all(flow: Flow, jobs: int) -> list[Fold]:
    """All chunks of all jobs. Raises the first failure."""
    folds = [Fold() for _ in range(jobs)]
    async for choice, chunks in flow.items():
        for _, chunk in chunks:
            folds[choice].add(chunk)
    return folds
