"""The chunks of one request's jobs, written as events to its client's socket as they come."""

import asyncio
from functools import partial

from millstream.common.errors import MillstreamError
from millstream.gateway.connection.disconnect import ClientWatch
from millstream.gateway.connection.outlet import Outlet
from millstream.gateway.connection.sse import STOPPING, DrainTimeout
from millstream.gateway.queue.sink import ChunkSink, LoggedChunk
from millstream.gateway.requests.admitted import AdmittedRequest
from millstream.gateway.requests.event_id import EventIds
from millstream.gateway.requests.presenter import Presenter
from millstream.gateway.requests.writer import KEEP_ALIVE, Writer
from millstream.gateway.services.services import Services

MOST_HELD = 1024  # pieces kept until the response's head has been sent; what comes after them is read from the log


class EventSink:
    """Writes a request's chunks to its client's socket, and lets the jobs lag while that is full. Until the response's
    head has been sent they are held."""

    def __init__(
        self, services: Services, admitted: AdmittedRequest, presenter: Presenter, client: ClientWatch
    ) -> None:
        self.writer = Writer(presenter, EventIds(admitted.id, admitted.after), admitted.after)
        self.held: list[tuple[int, list[LoggedChunk]]] = []
        self.begun = False  # there has been a chunk, or an end without any
        self.last = b""  # the last events: they leave in one write with the end of the response
        self._queue = services.cluster.queue
        self._drain_notifier = services.drain_notifier
        self._admitted = admitted
        self._client = client
        self._comments = presenter.framing.comments
        self._socket = client.outlet()
        self._outlet: Outlet | None = None  # the socket, once it is open for events
        self._opened = asyncio.Event()
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def of(self, choice: int) -> ChunkSink:
        """Returns the sink of one job."""
        return ChoiceSink(self, choice)

    async def news(self, following: asyncio.Task[None], wait: float) -> None:
        """Waits for the first chunk, or for the end of the following, at most `wait` seconds: `asyncio.wait` for one
        task, at a third of its cost."""
        timer = asyncio.get_running_loop().call_later(wait, self._wake)
        following.add_done_callback(self._wake)
        try:
            await self._news
        finally:
            timer.cancel()
            following.remove_done_callback(self._wake)

    def _wake(self, _: object = None) -> None:
        if not self._news.done():
            self._news.set_result(None)

    def open(self) -> None:
        """Writes what is held, and what comes from now on. Raises the failure of a job."""
        held, self.held = self.held, []
        self._outlet = self._socket
        self._opened.set()
        if not self.begun:
            self.show_life()
        for choice, chunks in held:
            self._write(choice, chunks)

    def put(self, choice: int, chunks: list[LoggedChunk]) -> bool:
        """Tells whether the chunks of a choice were taken. Raises the failure of its job."""
        if self._outlet is None:
            return self._hold(choice, chunks)
        if self._outlet.full:
            return False
        self._write(choice, chunks)
        return True

    def _hold(self, choice: int, chunks: list[LoggedChunk]) -> bool:
        if len(self.held) >= MOST_HELD:
            return False
        self.held.append((choice, chunks))
        self.begun = True
        self._wake()
        return True

    def _write(self, choice: int, chunks: list[LoggedChunk]) -> None:
        writer, self.begun = self.writer, True
        out = writer.write(choice, chunks)
        if writer.error is not None:
            self.last = out
            raise writer.error
        if writer.complete:
            self.last = out
            return
        self._socket.write(out)
        if self._drain_notifier.draining:
            self._send_elsewhere()

    def show_life(self) -> None:
        """Writes what is sent in a silence, for proxies; while the job is queued also for people."""
        if self._comments and self._outlet is not None and not self._outlet.full:
            self._outlet.write(self._comment())
            if self._drain_notifier.draining:
                self._send_elsewhere()

    def _comment(self) -> bytes:
        waiting = self._queue.waiting(self._admitted.jobs[0])
        if waiting is None:
            return KEEP_ALIVE
        about = "" if waiting.wait is None else f", about {waiting.wait:.0f} s"
        nobody = ", no worker serves the model now" if waiting.workers == 0 else ""
        if waiting.loading:
            nobody = f", a worker loads the model: {' '.join(waiting.loading.split())}"  # a line's end would end it
        return f": queued {waiting.position}{about}{nobody}\n".encode()

    def _send_elsewhere(self) -> None:
        """Ends the stream of a client that comes back, because this gateway stops."""
        if self._client.comes_back:
            self._client.interrupt(DrainTimeout(STOPPING))

    async def drained(self) -> None:
        """Returns when chunks are taken."""
        if len(self.held) >= MOST_HELD:
            await self._opened.wait()
        await self._socket.drained()

    def fail(self) -> None:
        """Writes that the stream ends by a fault of ours."""
        self._socket.write(self.writer.fail(MillstreamError("The server had an error while processing your request.")))

    def close(self) -> None:
        """Writes nothing any more."""
        self._socket.close()


class ChoiceSink:
    """Implements `ChunkSink` for one choice of a request. No call of Python's own stands between it and the events."""

    __slots__ = ("drained", "put", "show_life")

    def __init__(self, events: EventSink, choice: int) -> None:
        self.put = partial(events.put, choice)
        self.show_life = events.show_life
        self.drained = events.drained
