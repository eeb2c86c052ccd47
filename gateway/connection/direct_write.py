"""The fast path of an open stream: from the frame's arrival to the socket in one call.

A stream that has nothing to do but wait is a parked task under some ten nested coroutines (generators, middleware,
server), and waking it for each token costs more than everything else the gateway does for the token. So while it is
parked, and the socket takes what it is given, an ordinary chunk is written to the socket by the reader of the frames
itself, and the task sleeps on. Whatever is not ordinary (a last chunk, an error, a hole, a full socket, a process that
stops) goes the long way, in order, because the task is only parked when all it had has been sent.
"""

from collections.abc import Callable

import structlog
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from millstream.common.chunk import Chunk, Seq

# Choice, place, chunk (none: a sign of life): the bytes to send, None for the long way.
Write = Callable[[int, Seq, Chunk | None], bytes | None]
SERVER = "millstream.server"  # the server's own `send`, in the scope

log = structlog.stdlib.get_logger(part="stream")


class DirectWrite:
    """The direct write of one response. It stays closed for ever with a server other than uvicorn on httptools, and for
    HTTP/1.0."""

    def __init__(self, scope: Scope) -> None:
        self._cycle = _cycle(scope)
        self._write: Write | None = None

    def open(self, write: Write) -> None:
        """Allows direct writes from now on. The response's head has been sent."""
        if self._cycle is not None and self._cycle.chunked_encoding:
            self._write = write

    def close(self) -> None:
        """Sends everything through the request's task from now on."""
        self._write = None

    def take(self, choice: int, seq: Seq, chunk: Chunk | None) -> bool:
        """Tells whether it has been sent. Never raises: it is called by the one reader of all streams."""
        cycle, write = self._cycle, self._write
        if cycle is None or write is None or cycle.flow.write_paused or cycle.disconnected:
            return False
        try:
            out = write(choice, seq, chunk)
        except Exception:
            log.exception("direct_write_failed")  # the long way meets the same error, where it is answered
            self.close()
            return False
        if out:
            cycle.transport.write(b"%x\r\n%b\r\n" % (len(out), out))
        return out is not None


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
