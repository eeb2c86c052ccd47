"""The server's HTTP protocol: bounds on what a connection may send, and how long it may take, without a request coming
of it; errors in OpenAI's shape for what is no HTTP; and answers that clients of HTTP/1.0 can read."""

import asyncio
import random
from typing import Any, cast

import structlog
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from millstream.common.errors import BadRequest, MillstreamError
from millstream.gateway.errors.table import BodyTooSlow, HeadTooLarge, error_json, wire

LINGER = 2**20  # bytes of a body that are still taken, and dropped, after it has been answered: its client may not look
PHRASES = {400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large"}

log = structlog.stdlib.get_logger(part="http")


def http_id() -> str:
    """Returns a new `x-request-id`. Not from the kernel: nobody must be unable to guess it."""
    return f"req_{random.getrandbits(128):032x}"


class Http10Response(RequestResponseCycle):
    """An answer to a client of HTTP/1.0, which knows no chunks: the body ends where the connection does."""

    async def send(self, message: ASGISendEvent) -> None:
        self.chunked_encoding = False
        if message["type"] == "http.response.body":
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class BoundedHeadProtocol(HttpToolsProtocol):
    """httptools keeps an endless head in memory, and uvicorn trailers too: this closes the connection instead. Below
    the bound, heads are judged by the app (`Limits`), which can answer with all its headers. The bound is the
    configuration's `h11_max_incomplete_event_size` (bytes), which means the same for uvicorn's other protocol."""

    def __init__(self, *args: Any, head_timeout: float, body_timeout: float, **kwargs: Any) -> None:
        """`head_timeout`: seconds until a request's head must be complete, from its first byte or the connection's
        beginning; `body_timeout`: seconds between two pieces of its body."""
        super().__init__(*args, **kwargs)
        self._most = self.config.h11_max_incomplete_event_size or 2**20
        self._head_timeout = head_timeout
        self._body_timeout = body_timeout
        self._fruitless = 0  # bytes since the last of which a head or a piece of a body was made
        self._dropped = 0  # bytes of a body that came after the answer
        self._in_head = True
        self._waiting: asyncio.TimerHandle | None = None  # for a head, or for the next piece of a body
        self._piece_at = 0.0  # the loop's time at which the last piece of a body came

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting = self.loop.call_later(self._head_timeout, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._fruitless += len(data)
        if self._fruitless > self._most:
            self._refuse(HeadTooLarge(f"The request's head, or what follows its body, exceeds {self._most} bytes."))
            return
        super().data_received(data)
        if self._waiting is None and self._in_head and self._fruitless:
            self._waiting = self.loop.call_later(self._head_timeout, self.transport.close)
        elif self._waiting is None and not self._in_head:
            self._await_body(self._body_timeout)

    def on_message_begin(self) -> None:
        self._fruitless = max(self._fruitless, 1)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head, self._fruitless = False, 0
        self._stop_waiting()
        self._piece_at = self.loop.time()
        super().on_headers_complete()
        if self.scope.get("http_version") == "1.0":
            self.cycle.__class__ = Http10Response
        if not (self.parser and self.parser.should_upgrade()):
            # Trailers go into a list that nobody reads: a proxy may have checked the headers, and has not seen them.
            self.headers = []

    def on_body(self, body: bytes) -> None:
        self._fruitless, self._piece_at = 0, self.loop.time()
        if self.cycle.response_complete:
            self._dropped += len(body)
            if self._dropped > LINGER:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._fruitless, self._dropped = True, 0, 0  # whatever follows is the next request's
        self._stop_waiting()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuses a request that is not HTTP, with an error in OpenAI's shape."""
        self._refuse(BadRequest(f"{msg} Expected HTTP/1.1, as RFC 9112 has it."))

    def _await_body(self, seconds: float) -> None:
        self._waiting = self.loop.call_later(seconds, self._look_for_body)

    def _look_for_body(self) -> None:
        """One timer for a whole body, not one for each piece. While the app does not take what came already, nothing is
        read, and its client is not to blame."""
        now = self.loop.time()
        if self.flow.read_paused:
            self._piece_at = now
        left = self._piece_at + self._body_timeout - now
        if left > 0:
            self._await_body(left)
            return
        text = f"Nothing more of the request's body came for {self._body_timeout:g} seconds; it is not complete."
        self._refuse(BodyTooSlow(text))

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self, error: MillstreamError) -> None:
        """The connection's last words, unless they would come in the middle of an answer, or after one to the same
        request."""
        cycle = cast(RequestResponseCycle | None, self.cycle)
        answered = cycle is not None and cycle.response_started
        if cycle is None or not answered or (cycle.response_complete and self._in_head):
            identity, status, body = http_id(), wire(error).status, error_json(error)
            head = f"HTTP/1.1 {status} {PHRASES[status]}\r\ncontent-type: application/json\r\nconnection: close\r\n"
            head += f"x-request-id: {identity}\r\ncontent-length: {len(body)}\r\n\r\n"
            self.transport.write(head.encode() + body)
            log.warning("request_refused", request_id=identity, status=status, error=error.message)
        self.transport.close()
