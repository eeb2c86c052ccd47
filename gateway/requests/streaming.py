"""A stream that has begun: its events until the last, its notice of a drain, and what it leaves when it ends."""

from collections.abc import AsyncGenerator, Awaitable, Callable

import structlog

from millstream.common.chunk import NOTHING_YET, Chunk, Seq
from millstream.common.errors import MillstreamError, from_failure
from millstream.gateway.connection.disconnect import ClientWatch
from millstream.gateway.connection.sse import STOPPING, DrainTimeout, EventStream, Final
from millstream.gateway.queue.merge import MergedStream
from millstream.gateway.requests.admitted import AdmittedRequest, Desk
from millstream.gateway.requests.event_id import EventIds
from millstream.gateway.requests.presenter import Presenter
from millstream.gateway.requests.usage import total
from millstream.gateway.requests.writer import KEEP_ALIVE, Writer
from millstream.gateway.services.services import Services

StreamEnded = Callable[[AdmittedRequest, bool], Awaitable[None]]
log = structlog.stdlib.get_logger(part="stream")


class Streaming:
    """One open stream. `resumable`: its jobs run on when the client leaves."""

    def __init__(
        self,
        services: Services,
        admitted: AdmittedRequest,
        flow: MergedStream,
        presenter: Presenter,
        client: ClientWatch,
        *,
        resumable: bool,
    ) -> None:
        self._desk = Desk(services.cluster.queue)
        self._metrics = services.metrics
        self._drain_notifier = services.drain_notifier
        self._admitted = admitted
        self._flow = flow
        self._client = client
        self._framing = presenter.framing
        self._writer = Writer(presenter, EventIds(admitted.id, admitted.after), admitted.after)
        self._resumable = resumable
        self._complete = False

    def response(self, ended: StreamEnded | None = None) -> EventStream:
        """Returns the HTTP response. `ended` is told whether the stream was complete."""

        async def closing() -> None:
            await self._close()
            if ended is not None:
                await ended(self._admitted, self._complete)

        return EventStream(
            self._events(),
            headers=self._admitted.headers(),
            closing=closing,
            client=self._client,
            framing=self._framing,
        )

    async def _events(self) -> AsyncGenerator[bytes]:
        if not self._flow.begun:
            yield self._sign_of_life()
        self._client.direct.open(self._at_once)
        last = b""
        try:
            async for choice, chunks in self._flow.items():
                out = self._writer.write(choice, chunks) if chunks else self._sign_of_life()
                if self._writer.error is not None:
                    yield Final(out)
                    return
                if not self._writer.unsettled:  # nothing comes after the last chunks: the end leaves with them
                    last = out
                    continue
                if out:
                    yield out
                if self._client.comes_back and self._drain_notifier.draining:
                    self._client.interrupt(DrainTimeout(STOPPING))
            failure = await self._recall()
            yield Final(failure) if failure else self._end(last)
        except MillstreamError as error:
            yield Final(self._writer.fail(error))
        except Exception:
            yield self._writer.fail(MillstreamError("The server had an error while processing your request."))
            raise

    def _end(self, out: bytes) -> Final:
        self._complete = True
        return Final(out + self._writer.close())

    def _at_once(self, choice: int, seq: Seq, chunk: Chunk | None) -> bytes | None:
        """Returns the event of a chunk that needs nothing but to be sent."""
        if self._drain_notifier.draining:
            return None
        if chunk is None:
            return self._sign_of_life()
        return None if chunk.last else self._writer.event(choice, seq, chunk)

    def _sign_of_life(self) -> bytes:
        """Returns what is sent in a silence, for proxies; while the job is queued also for people."""
        if not self._framing.comments:
            return b""
        waiting = self._desk.waiting(self._admitted)
        if waiting is None:
            return KEEP_ALIVE
        about = "" if waiting.wait is None else f", about {waiting.wait:.0f} s"
        nobody = ", no worker serves the model now" if waiting.workers == 0 else ""
        if waiting.loading:
            nobody = f", a worker loads the model: {waiting.loading}"
        return f": queued {waiting.position}{about}{nobody}\n".encode()

    async def _recall(self) -> bytes:
        """Reads a job's last chunk once more for a client that resumed after it: for the usage, or for the error that
        ended the job. After the usage event there is none, and nothing but the end is left to tell."""
        for choice in self._writer.unsettled:
            had = self._admitted.after[choice]
            found = await self._desk.chunk_after(self._admitted, choice, Seq(had - 1)) if had > NOTHING_YET else None
            if found is not None and found[1].finish is not None:
                self._writer.settle(choice, *found)
            elif found is not None and found[1].error is not None:
                return self._writer.fail(from_failure(found[1].error))
        return b""

    async def _close(self) -> None:
        self._client.direct.close()
        await self._flow.aclose()
        error = self._writer.error
        admitted = self._admitted
        if self._complete and not self._writer.unsettled:
            self._metrics.count(admitted.model, admitted.tenant, total(self._writer.usages, 1))
        if error is not None:
            self._metrics.failures.labels(error.code).inc()
            log.warning("request_failed", request=admitted.id.text, code=error.code, error=error.message)
        elif admitted.found(self._flow.begun):
            self._count(admitted)
        if error is None and not self._complete:
            log.info("client_left", request=admitted.id.text, resumable=self._resumable)
        if self._abandoned(error):
            await self._desk.leave(admitted)

    def _count(self, admitted: AdmittedRequest) -> None:
        if admitted.admission is None:
            self._metrics.resumptions.labels(admitted.model).inc()
        if not self._complete:
            self._metrics.departures.labels(admitted.model).inc()

    def _abandoned(self, error: MillstreamError | None) -> bool:
        """Tells whether jobs may still run that nobody will read. One choice's failure ends the others."""
        if error is not None:
            return len(self._admitted.jobs) > 1
        return not (self._complete or self._resumable or self._drain_notifier.draining)
