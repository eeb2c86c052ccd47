"""The fast path of an open stream: from the frame's arrival to the socket in one call.

A stream that has nothing to do but wait is a parked task under some ten nested coroutines (generators, middleware,
server), and waking it for each token costs more than everything else the gateway does for the token. So while it is
parked, and the socket takes what it is given, an ordinary chunk is written to the socket by the reader of the frames
itself, and the task sleeps on. Whatever is not ordinary (a last chunk, an error, a hole, a full socket, a process that
stops) goes the long way, in order, because the task is only parked when all it had has been sent.
"""

from collections.abc import Callable
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from common.chunk import Chunk, Seq
from gateway.auth import told_of_keys

# Choice, place, chunk (none: a sign of life): the bytes to send, None for the long way.
Write = Callable[[int, Seq, Chunk | None], bytes | None]
SERVER = "millstream.server"  # the server's own `send`, in the scope

log = structlog.stdlib.get_logger(part="stream")


class DirectApp(FastAPI):
    """Leaves the server's own `send` in the scope, before anybody wraps it, and keeps our layers around the framework,
    where a request can be answered without it (`gateway.shortcut`)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._layers: ASGIApp = super().__call__

    def openapi(self) -> dict[str, Any]:
        """With the API keys, which a layer asks for and no route."""
        return told_of_keys(super().openapi())

    def surround(self, layer: Callable[[ASGIApp], ASGIApp]) -> None:
        """Puts a layer around all there are."""
        self._layers = layer(self._layers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A new scope: the server's own would hold the server's request, a cycle that only the collector could undo.
        await self._layers({**scope, SERVER: send, "app": self}, receive, send)


class Express:
    """One response's. It stays closed for ever with a server other than uvicorn on httptools, and for HTTP/1.0."""

    def __init__(self, scope: Scope) -> None:
        self._cycle = _cycle(scope)
        self._write: Write | None = None

    def open(self, write: Write) -> None:
        """From now on. The response's head has been sent."""
        if self._cycle is not None and self._cycle.chunked_encoding:
            self._write = write

    def close(self) -> None:
        """From now on everything goes the long way."""
        self._write = None

    def take(self, choice: int, seq: Seq, chunk: Chunk | None) -> bool:
        """Whether it has been sent. Never raises: it is called by the one reader of all streams."""
        cycle, write = self._cycle, self._write
        if cycle is None or write is None or cycle.flow.write_paused or cycle.disconnected:
            return False
        try:
            out = write(choice, seq, chunk)
        except Exception:
            log.exception("express failed")  # the long way meets the same error, where it is answered
            self.close()
            return False
        if out:
            cycle.transport.write(b"%x\r\n%b\r\n" % (len(out), out))
        return out is not None


def begun(scope: Scope) -> bool:
    """Whether something of the response has been sent, as far as is known."""
    return (cycle := _cycle(scope)) is None or cycle.response_started


def hang_up(scope: Scope) -> None:
    """Closes the connection behind what has been sent, though the response has no end. Left to itself the server does
    the same, but takes it for a mistake of ours and logs an error for each."""
    if (cycle := _cycle(scope)) is not None:
        cycle.disconnected = True
        cycle.transport.close()


def _cycle(scope: Scope) -> RequestResponseCycle | None:
    cycle = getattr(scope.get(SERVER), "__self__", None)
    return cycle if isinstance(cycle, RequestResponseCycle) else None
