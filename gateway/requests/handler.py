"""One request being answered: admitted, followed, written as a stream or as a whole, given up if its client leaves."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from millstream.common.chunk import NOTHING_YET, Seq, Start
from millstream.common.errors import Cancelled, LogExpired, MillstreamError, NotFound, Unavailable, from_failure
from millstream.common.job import EXACTNESSES
from millstream.gateway.connection.disconnect import ClientGone, ClientWatch
from millstream.gateway.connection.sse import STOPPING, DrainTimeout
from millstream.gateway.queue.client import QueueClient
from millstream.gateway.queue.sink import CallbackSink
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.admitted import AdmittedRequest, admit, admit_anew, chunk_after, follow
from millstream.gateway.requests.prepared import PreparedRequest
from millstream.gateway.requests.presenter import Presenter
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.requests.streaming import Streaming
from millstream.gateway.requests.usage import total
from millstream.gateway.services.request_trace import trace_of
from millstream.gateway.services.services import Services

SHORTEST = 2  # chunks of the shortest job: its start and its end


@dataclass(frozen=True, slots=True)
class Writers:
    """The functions by which one API writes its answers."""

    whole: Callable[[ResponseMeta, list[Accumulator]], dict[str, Any]]
    stream: Callable[[ResponseMeta], Presenter] | None = None  # None: this API answers only as a whole
    text: Callable[[list[Accumulator]], str] | None = None  # the whole answer, where that is to be plain text
    ended: Callable[[AdmittedRequest, bool], Awaitable[None]] | None = None  # told whether the answer was complete


class RequestHandler:
    """The life of one request in this gateway."""

    def __init__(self, services: Services, request: Request, *, resumable: bool) -> None:
        self._services = services
        self._trace = trace_of(request.scope)
        self._client = ClientWatch(request, services.drain_notifier.served)
        self._resumable = resumable
        self._queue = services.cluster.queue

    async def admit(self, order: PreparedRequest) -> AdmittedRequest:
        """Returns the jobs to follow: the request's own, or an earlier request's."""
        if self._trace is not None:
            self._trace.asks(order.submission.model, order.submission.jobs, stream=order.stream)
        admitted = await admit(self._queue, order)
        if self._trace is not None:
            self._trace.follows(admitted.id.text, earlier=admitted.repeated or admitted.admission is None)
        if admitted.repeated:
            self._services.metrics.resumptions.labels(admitted.model).inc()
        return admitted

    async def answer(
        self, order: PreparedRequest, answer: Writers, admitted: AdmittedRequest | None = None
    ) -> Response:
        """Raises what keeps the answer from beginning; a stream's later failure is its last event."""
        admitted = admitted or await self.admit(order)
        reply = self.whole if answer.stream is None or not order.stream else self.stream
        try:
            return await reply(answer, admitted)
        except NotFound as error:
            if admitted.admission is not None or time.time() - admitted.id.created < self._services.settings.retention:
                raise
            raise LogExpired(error.message, param=error.param) from None
        except Cancelled as error:
            if isinstance(error, ClientGone) or not admitted.repeated:
                raise
        return await reply(answer, await admit_anew(self._queue, order))

    async def whole(self, answer: Writers, admitted: AdmittedRequest) -> Response:
        """Returns all of the answer at once."""
        accumulators = await self.accumulators(admitted)
        admitted = self._stated(admitted, accumulators[0].start)
        if answer.text is not None:
            response = Response(answer.text(accumulators), media_type="text/plain", headers=admitted.headers())
        else:
            body = msgspec.json.encode(answer.whole(admitted.head(), accumulators))
            response = Response(body, media_type="application/json", headers=admitted.headers())
        if answer.ended is not None:
            await answer.ended(admitted, True)
        return response

    async def accumulators(self, admitted: AdmittedRequest) -> list[Accumulator]:
        """Returns every job's chunks, accumulated. Raises a job's failure, `ClientGone`."""
        accumulators = [Accumulator() for _ in admitted.jobs]
        sinks = [CallbackSink(accumulator.add) for accumulator in accumulators]
        try:
            with self._client:
                await follow(self._queue, admitted, sinks)
        except BaseException as error:
            await self._abandon(admitted, error, begun=any(sink.begun for sink in sinks))
            raise
        self._client.release()
        if admitted.admission is None:
            self._services.metrics.resumptions.labels(admitted.model).inc()
        used = total([accumulator.usage for accumulator in accumulators], len(accumulators))
        self._services.metrics.count(admitted.model, admitted.tenant, used)
        if self._trace is not None:
            self._trace.used(used)
        return accumulators

    async def stream(self, answer: Writers, admitted: AdmittedRequest) -> Response:
        """Streams the answer as it comes, after what the client has had."""
        assert answer.stream is not None
        presenter = answer.stream(admitted.head())
        after = admitted.after
        if presenter.needs_history:
            after = [NOTHING_YET] * len(admitted.jobs)
        elif admitted.resumed:
            await self._reread_start(admitted, presenter)
            after = [await self._within(admitted, choice) for choice in range(len(admitted.jobs))]
        reading = (admitted, presenter, self._client)
        streaming = Streaming(self._services, *reading, resumable=self._resumable, trace=self._trace)
        try:
            with self._client:
                admitted = self._stated(admitted, await self._begin(admitted, streaming, after))
        except BaseException as error:
            await streaming.stop()
            await self._abandon(admitted, error, begun=streaming.begun)
            raise
        return streaming.response(admitted.headers(), answer.ended)

    async def _reread_start(self, admitted: AdmittedRequest, presenter: Presenter) -> None:
        """Reads the first chunk again: it says who computes, and every event repeats it."""
        for choice, seq in enumerate(admitted.after):
            if seq == NOTHING_YET:
                continue
            found = await chunk_after(self._queue, admitted, choice, NOTHING_YET)
            if found is not None:
                presenter.event(choice, found[1], b"")
                return

    async def _within(self, admitted: AdmittedRequest, choice: int) -> Seq:
        """Returns the seq after which the log goes on for a choice. The usage event's place is one after the last
        chunk: nothing is there."""
        had = admitted.after[choice]
        if had < SHORTEST + 1:
            return had
        found = await chunk_after(self._queue, admitted, choice, Seq(had - 2))
        return Seq(had - 1) if found is not None and found[1].finish is not None else had

    def _stated(self, admitted: AdmittedRequest, start: Start | None) -> AdmittedRequest:
        """Returns the request with the exactness that its worker stated."""
        if start is None or start.exactness not in EXACTNESSES:
            return admitted
        self._services.metrics.answers.labels(admitted.model, start.exactness).inc()
        return replace(admitted, exactness=start.exactness)

    async def _begin(self, admitted: AdmittedRequest, streaming: Streaming, after: list[Seq]) -> Start | None:
        """Waits for the first chunk, for a while, so that a failure at the start is an HTTP error. Raises it, else
        returns what the chunk tells of who computes."""
        first = await streaming.begin(after, self._services.settings.first_chunk_wait)
        if not first:
            return None
        if (opening := first[0][1].error) is not None:
            raise from_failure(opening)
        given_up = any(chunk.error is not None and chunk.error.code == Cancelled.code for _, chunk in first)
        if admitted.repeated and given_up:
            raise Cancelled("The earlier request with this idempotency key was cancelled.")
        return first[0][1].start

    async def _abandon(self, admitted: AdmittedRequest, error: BaseException, *, begun: bool) -> None:
        self._client.release()
        if isinstance(error, asyncio.CancelledError | DrainTimeout):
            # This process stops, the jobs run on: a retry finds them.
            raise Unavailable(STOPPING, retry_after=1) from None
        if isinstance(error, ClientGone):
            if admitted.found(begun):
                self._services.metrics.departures.labels(admitted.model).inc()
            if self._resumable:
                return
        if isinstance(error, MillstreamError) and not isinstance(error, ClientGone) and len(admitted.jobs) == 1:
            return  # the job itself ended
        await self._queue.leave(admitted.model, admitted.jobs)


def request_handler(services: Services, request: Request, order: PreparedRequest) -> RequestHandler:
    """Returns the handler of a prepared request."""
    return RequestHandler(services, request, resumable=order.caller.resumable)


async def accumulate_all(queue: QueueClient, admitted: AdmittedRequest) -> list[Accumulator]:
    """Returns every job's chunks, accumulated. Raises the first failure."""
    accumulators = [Accumulator() for _ in admitted.jobs]
    await follow(queue, admitted, [CallbackSink(accumulator.add) for accumulator in accumulators])
    return accumulators
