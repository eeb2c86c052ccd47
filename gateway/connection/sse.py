"""The stream as an HTTP response: sse-starlette's, around a body that writes itself to the socket."""

# pyright: reportUnknownMemberType=false
# sse-starlette's constructor takes a bare `dict` among its contents.

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Self

from sse_starlette.sse import EventSourceResponse
from starlette.types import Receive, Scope, Send

from millstream.common.errors import Unavailable
from millstream.gateway.connection.disconnect import ClientGone, ClientWatch
from millstream.gateway.connection.framing import Framing
from millstream.gateway.connection.outlet import hang_up

# The notice of a gateway that stops: come back, to another one, in so many milliseconds. The line counts when it is
# read; no blank line ends it, for the same reason as with `gateway.requests.writer.KEEP_ALIVE`.
RETRY = b"retry: 1000\n"

SSE = Framing(b"text/event-stream; charset=utf-8", comments=True, stop_notice=RETRY)

# What sse-starlette says in every stream's head, but its media type. Keeping the connection is the server's to say: it
# may have said close.
VARIABLE_HEADERS = (b"connection", b"content-type")
FIXED_HEADERS = [each for each in EventSourceResponse(iter(())).raw_headers if each[0] not in VARIABLE_HEADERS]
STOPPING = "This gateway is stopping: please ask again."
CUT_INTERVAL = 0.1  # seconds until those are cut off, too, whose jobs were just being submitted


class DrainTimeout(Unavailable):
    """The answer outlived the drain window of a gateway that stops."""


class EventStream(EventSourceResponse):
    """Sends the head, lets the body write itself, and sends the last bytes, which `body` returns, in one write with the
    end. No pings of its own: the body shows signs of life. `closing` runs in every case: the client left, the process
    stops, or all was sent.

    It runs in the request's own task. sse-starlette's way, a group of three tasks and their cancel scopes for each
    stream, cost a fifth of a request: `client` knows when to end it, and `DrainNotifier` listens once for all."""

    def __init__(
        self,
        body: Callable[[], Awaitable[bytes]],
        *,
        headers: Mapping[str, str],
        closing: Callable[[], Awaitable[None]],
        client: ClientWatch,
        framing: Framing = SSE,
    ) -> None:
        # Not its constructor: the lock and the maps of headers made there are a tenth of a request, and not used here.
        self.status_code, self.background = 200, None
        named = ((name.encode(), value.encode("latin-1")) for name, value in headers.items())
        self.raw_headers = [*FIXED_HEADERS, (b"content-type", framing.media_type), *named]
        self._framing = framing
        self._body = body
        self._closing = closing
        self._client = client

    @classmethod
    async def stop_signal(cls) -> None:
        """Returns when the process is told to stop, under whichever server it runs: sse-starlette's watcher knows."""
        await cls._listen_for_exit_signal()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            with self._client:
                await send({"type": "http.response.body", "body": await self._body(), "more_body": False})
        except ClientGone:
            pass  # there is nobody to tell
        except DrainTimeout:  # no end, or it would look whole
            await send({"type": "http.response.body", "body": self._framing.stop_notice, "more_body": True})
            hang_up(scope)
        finally:
            self._client.release()
            await self._closing()


class DrainNotifier:
    """Tells a process's open streams that it stops, and cuts off the answers that outlive the drain window. An
    `async with` scope: one listener, whatever the number of clients.

    `DrainingServer` calls `tell`. Each of several processes runs a plain uvicorn, which does not: there sse-starlette's
    watcher sees the signal, up to half a second later. It watches for one event loop of a thread, the first."""

    def __init__(self, drain: float) -> None:
        """Watches for the stop signal. `drain`: seconds that answers may go on after it."""
        self.served: set[ClientWatch] = set()
        self._drain = drain
        self._told = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Tells whether the process has been told to stop."""
        return self._told.is_set()

    def tell(self) -> None:
        """Begins the drain window. Idempotent."""
        self._told.set()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(each, name="drain_notifier") for each in (self._watch(), self._cut_off())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        await EventStream.stop_signal()
        self.tell()

    async def _cut_off(self) -> None:
        await self._told.wait()
        await asyncio.sleep(self._drain)
        while True:
            for client in list(self.served):
                client.interrupt(DrainTimeout("This gateway stops."))
            await asyncio.sleep(CUT_INTERVAL)
