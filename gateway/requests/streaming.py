"""A stream that has begun: its jobs followed until the last has ended, and what it leaves when it ends."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from millstream.common.chunk import NOTHING_YET, Seq, Usage
from millstream.common.errors import MillstreamError, from_failure
from millstream.gateway.connection.disconnect import ClientWatch
from millstream.gateway.connection.sse import EventStream
from millstream.gateway.queue.sink import LoggedChunk
from millstream.gateway.requests.admitted import AdmittedRequest, chunk_after, follow
from millstream.gateway.requests.event_sink import EventSink
from millstream.gateway.requests.presenter import Presenter
from millstream.gateway.requests.usage import total
from millstream.gateway.services.request_trace import RequestTrace
from millstream.gateway.services.services import Services

StreamEnded = Callable[[AdmittedRequest, bool], Awaitable[None]]
log = structlog.stdlib.get_logger(part="stream")


class Streaming:
    """One open stream. `resumable`: its jobs run on when the client leaves."""

    def __init__(
        self,
        services: Services,
        admitted: AdmittedRequest,
        presenter: Presenter,
        client: ClientWatch,
        *,
        resumable: bool,
        trace: RequestTrace | None = None,
    ) -> None:
        self._trace = trace
        self._queue = services.cluster.queue
        self._metrics = services.metrics
        self._drain_notifier = services.drain_notifier
        self._admitted = admitted
        self._client = client
        self._framing = presenter.framing
        self._sink = EventSink(services, admitted, presenter, client)
        self._writer = self._sink.writer
        self._resumable = resumable
        self._complete = False
        self._following: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Tells whether something of the jobs has been read."""
        return self._sink.begun

    async def begin(self, after: Sequence[Seq], wait: float) -> list[LoggedChunk]:
        """Follows the jobs from now on. Returns the first chunks; none if none came within `wait` seconds, or none ever
        will. Raises what following raises."""
        sinks = [self._sink.of(choice) for choice in range(len(self._admitted.jobs))]
        self._following = asyncio.create_task(follow(self._queue, self._admitted, sinks, after))
        await self._sink.news(self._following, wait)
        if self._following.done():
            self._following.result()
            self._sink.begun = True
        return self._sink.held[0][1] if self._sink.held else []

    def response(self, headers: Mapping[str, str], ended: StreamEnded | None = None) -> EventStream:
        """Returns the HTTP response. `ended` is told whether the stream was complete."""

        async def closing() -> None:
            await self._close()
            if ended is not None:
                await ended(self._admitted, self._complete)

        return EventStream(
            self._run,
            headers=headers,
            closing=closing,
            client=self._client,
            framing=self._framing,
        )

    async def _run(self) -> bytes:
        """Lets events be written until the jobs have ended. Returns the last ones."""
        assert self._following is not None
        try:
            self._sink.open()
            await self._following
            return await self._recall() or self._end()
        except MillstreamError as error:
            return self._sink.last if error is self._writer.error else self._writer.fail(error)
        except Exception:
            self._sink.fail()
            raise
        finally:
            self._sink.close()

    def _end(self) -> bytes:
        self._complete = True
        return self._sink.last + self._writer.close()

    async def _recall(self) -> bytes:
        """Reads a job's last chunk once more for a client that resumed after it: for the usage, or for the error that
        ended the job. After the usage event there is none, and nothing but the end is left to tell."""
        for choice in self._writer.unsettled:
            had = self._admitted.after[choice]
            found = await self._looked_up(choice, Seq(had - 1)) if had > NOTHING_YET else None
            if found is not None and found[1].finish is not None:
                self._writer.settle(choice, *found)
            elif found is not None and found[1].error is not None:
                return self._writer.fail(from_failure(found[1].error))
        return b""

    async def _looked_up(self, choice: int, after: Seq) -> LoggedChunk | None:
        return await chunk_after(self._queue, self._admitted, choice, after)

    async def stop(self) -> None:
        """Follows the jobs no more."""
        self._sink.close()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _close(self) -> None:
        await self.stop()
        error = self._writer.error
        admitted = self._admitted
        if self._complete and not self._writer.unsettled:
            self._used(admitted, total(self._writer.usages, 1))
        if error is not None and self._trace is not None:
            self._trace.failed(error.code)
        if error is not None:
            self._metrics.failures.labels(error.code).inc()
            log.warning("request_failed", request=admitted.id.text, code=error.code, error=error.message)
        elif admitted.found(self.begun):
            self._count(admitted)
        if error is None and not self._complete:
            log.info("client_left", request=admitted.id.text, resumable=self._resumable)
        if self._abandoned(error):
            await self._queue.leave(admitted.model, admitted.jobs)

    def _used(self, admitted: AdmittedRequest, usage: Usage) -> None:
        self._metrics.count(admitted.model, admitted.tenant, usage)
        if self._trace is not None:
            self._trace.used(usage)

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
