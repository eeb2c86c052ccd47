"""The FastAPI app with our layers around it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from millstream.gateway.access.authentication import told_of_keys
from millstream.gateway.apis.endpoint import Dialect
from millstream.gateway.connection.outlet import SERVER


class DirectApp(FastAPI):
    """Leaves the server's own `send` in the scope, before anybody wraps it, and keeps our layers around the framework,
    where a request can be answered without it (`gateway.http.json_dispatch`)."""

    def __init__(self, dialects: Sequence[Dialect], **options: Any) -> None:
        """`dialects`: those beside OpenAI's, for whoever answers with an error."""
        super().__init__(**options)
        self.dialects = dialects
        self._document = b""  # what `/openapi.json` answers, once it has been asked for
        self._building = asyncio.Lock()
        self._layers: ASGIApp = super().__call__

    def openapi(self) -> dict[str, Any]:
        """Returns the OpenAPI document with the API keys, which a middleware asks for and no route. `document` is what
        does not hold the loop."""
        return told_of_keys(super().openapi())

    async def document(self) -> bytes:
        """Returns the OpenAPI document as JSON. It is built once, which takes seconds, and in a thread: streams go on
        meanwhile."""
        async with self._building:
            if not self._document:
                self._document = await asyncio.to_thread(lambda: msgspec.json.encode(self.openapi()))
        return self._document

    def build_middleware_stack(self) -> ASGIApp:
        """Returns the framework's own layers without the outermost: it would answer a crash in plain text before our
        access log, which is further out, can do so in OpenAI's shape."""
        stack = super().build_middleware_stack()
        return stack.app if isinstance(stack, ServerErrorMiddleware) else stack

    def surround(self, layer: Callable[[ASGIApp], ASGIApp]) -> None:
        """Puts a layer around all there are."""
        self._layers = layer(self._layers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A new scope: the server's own would hold the server's request, a cycle that only the collector could undo.
        await self._layers({**scope, SERVER: send, "app": self}, receive, send)
