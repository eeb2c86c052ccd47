"""The server's HTTP protocol: a bound on what a connection may send before its request's head is complete, and answers
that clients of HTTP/1.0 can read."""

from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from millstream.gateway.errors.table import HeadTooLarge, error_json


class Http10Response(RequestResponseCycle):
    """An answer to a client of HTTP/1.0, which knows no chunks: the body ends where the connection does."""

    async def send(self, message: ASGISendEvent) -> None:
        self.chunked_encoding = False
        if message["type"] == "http.response.body":
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class BoundedHeadProtocol(HttpToolsProtocol):
    """httptools keeps an endless head in memory; this closes the connection instead. Below the bound, heads are judged
    by the app (`Limits`), which can answer with all its headers. The bound is the configuration's
    `h11_max_incomplete_event_size` (bytes), which means the same for uvicorn's other protocol."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._most = self.config.h11_max_incomplete_event_size or 2**20
        self._head = 0  # bytes of the head under way
        self._in_head = True

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head += len(data)
            if self._head > self._most:
                self._refuse()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        if self.scope.get("http_version") == "1.0":
            self.cycle.__class__ = Http10Response

    def on_message_complete(self) -> None:
        self._in_head, self._head = True, 0  # whatever follows is the next request's
        super().on_message_complete()

    def _refuse(self) -> None:
        body = error_json(HeadTooLarge(f"The request's head exceeds {self._most} bytes."))
        head = "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()
