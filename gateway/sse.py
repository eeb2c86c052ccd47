"""The stream as an HTTP response: sse-starlette's, fed with bytes that are events already."""

# pyright: reportUnknownMemberType=false
# sse-starlette's constructor takes a bare `dict` among its contents.

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import anyio
from sse_starlette.sse import EventSourceResponse
from starlette.types import Message, Receive, Scope, Send

RETRY = b"retry: 1000\n\n"  # milliseconds: the farewell of a gateway that stops; come back to another one


class EventStream(EventSourceResponse):
    """Sends what the iterator yields as it is: one socket write for each item. No pings of its own: the flow tells
    when it is silent. `closing` runs in every case: the client left, the process stops, or all was sent."""

    def __init__(
        self,
        events: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str],
        closing: Callable[[], Awaitable[None]],
        leaving: anyio.Event,
        drain: float,
    ) -> None:
        super().__init__(events, headers=headers, ping=0, shutdown_event=leaving, shutdown_grace_period=drain)
        del self.headers["connection"]  # keeping it is the server's to say, and it may have said close
        self._closing = closing
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
            if self._started and self.active:  # cut off at the end of the drain window: no end, or it would look whole
                await send({"type": "http.response.body", "body": RETRY, "more_body": True})
        finally:
            await self._closing()

    async def _stream_response(self, send: Send) -> None:
        self._started = True
        await super()._stream_response(send)

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        """There is no send timeout here, so no cancel scope either: that alone was a tenth of the cost of a token."""
        await send(message)
