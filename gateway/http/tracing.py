"""Middleware that opens the span of each request that may make jobs, and writes it when the answer is over."""

from typing import cast

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millstream.common.tracing.context import TraceContext, begin
from millstream.common.tracing.span import AttributeValue
from millstream.gateway.services.request_trace import STATE, RequestTrace
from millstream.gateway.services.services import Services

HEADER = b"traceparent"


class TraceRequests:
    """Is there only while something is traced. `ratio`: the share of requests that are, if their clients do not say."""

    def __init__(self, app: ASGIApp, ratio: float) -> None:
        self._app = app
        self._ratio = ratio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = None
        if scope["type"] == "http" and scope["method"] == "POST":
            writer = cast(Services, scope["app"].state.services).cluster.spans
        if writer is None:
            await self._app(scope, receive, send)
            return
        parent = client_span(scope)
        trace = RequestTrace(begin(parent, self._ratio), parent.span_id if parent is not None else "")
        scope.setdefault("state", {})[STATE] = trace
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(trace_id=trace.context.trace_id):
                await self._app(scope, receive, noted)
        finally:
            route = cast(str, getattr(scope.get("route"), "path", "unmatched"))
            about: dict[str, AttributeValue] = {"http.request.method": "POST", "http.route": route}
            if (span := trace.span("server", f"POST {route}", about, status)) is not None:
                writer.write(span)


def client_span(scope: Scope) -> TraceContext | None:
    """Returns the client's span, as its header names it. One that is malformed, or sent twice, counts as none."""
    told = [value for name, value in scope["headers"] if name == HEADER]
    return TraceContext.of(told[0].decode("latin-1").strip()) if len(told) == 1 else None
