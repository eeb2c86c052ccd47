"""The way out of an open stream: from a frame's arrival to the client's socket in one call.

A stream that is being followed is a sleeping task under some ten coroutines (middleware, framework, server), and waking
it for each token costs more than everything else the gateway does for the token. So the reader of the frames writes
each event to the socket itself, and the task sleeps until the end.
"""

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

SERVER = "millstream.server"  # the server's own `send`, in the scope


class Outlet:
    """The body of one response whose head has been sent, on uvicorn's httptools protocol: our servers have no other."""

    def __init__(self, scope: Scope) -> None:
        cycle = _cycle(scope)
        if cycle is None:
            raise RuntimeError("Streams need uvicorn's httptools protocol, with which `millstream gateway` serves.")
        self._cycle = cycle
        self._closed = False

    @property
    def full(self) -> bool:
        """Tells whether the socket and its buffer are full."""
        return self._cycle.flow.write_paused

    async def drained(self) -> None:
        """Returns when the socket takes bytes again, or its client has left."""
        await self._cycle.flow.drain()

    def write(self, out: bytes) -> None:
        """Sends a piece of the body, as a chunk where the client's HTTP knows chunks."""
        cycle = self._cycle
        if not out or self._closed or cycle.disconnected:
            return
        if cycle.chunked_encoding:
            cycle.transport.write(b"%x\r\n%b\r\n" % (len(out), out))
        elif cycle.scope["method"] != "HEAD":
            cycle.transport.write(out)

    def close(self) -> None:
        """Sends nothing any more."""
        self._closed = True


def begun(scope: Scope) -> bool:
    """Tells whether something of the response has been sent, as far as is known."""
    return (cycle := _cycle(scope)) is None or cycle.response_started


def hang_up(scope: Scope) -> None:
    """Closes the connection after what has been sent, though the response has no end. Left to itself the server does
    the same, but takes it for a mistake of ours and logs an error for each."""
    if (cycle := _cycle(scope)) is not None:
        cycle.disconnected = True
        cycle.transport.close()


def _cycle(scope: Scope) -> RequestResponseCycle | None:
    cycle = getattr(scope.get(SERVER), "__self__", None)
    return cycle if isinstance(cycle, RequestResponseCycle) else None
