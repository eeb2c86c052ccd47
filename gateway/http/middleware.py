"""Middleware around every route: the access log, authentication, the limit on bodies. Pure ASGI: a stream's bytes pass
through one small function."""

import re
import time
from collections.abc import Mapping
from typing import cast

import msgspec
import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millstream.common.errors import BadRequest, BodyTooLarge, Forbidden, MillstreamError, Unavailable
from millstream.gateway.access.authentication import authenticate, is_open
from millstream.gateway.access.browsers import BrowserRules
from millstream.gateway.apis.endpoint import Dialect, dialect_of
from millstream.gateway.connection.protocol import http_id
from millstream.gateway.errors.table import HeadTooLarge, error_headers, wire
from millstream.gateway.http.app import DirectApp
from millstream.gateway.http.normalize import own_path
from millstream.gateway.services.metrics import Metrics
from millstream.gateway.services.services import Services

log = structlog.stdlib.get_logger(part="http")
PROBES = ("/health", "/ready", "/metrics")  # asked every few seconds: their answers are told at `debug`
REQUEST_ID = re.compile(r"^[\w.:-]{1,128}$")


class AccessLog:
    """Gives every response its `x-request-id` and `openai-processing-ms`, counts it and logs it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry = _Entry(scope, send)
        self._metrics.open_requests.inc()
        try:
            structlog.contextvars.bind_contextvars(request_id=entry.request_id)  # a request has a task of its own
            await self._answer(entry, scope, receive)
            tell = log.debug if scope["path"] in PROBES and entry.status < 500 else log.info
            tell("request_answered", **entry.facts())
        finally:
            self._metrics.open_requests.dec()
            self._metrics.requests.labels(entry.route, str(entry.status)).inc()
            self._metrics.head_seconds.labels(entry.route).observe(entry.head_seconds)

    async def _answer(self, entry: "_Entry", scope: Scope, receive: Receive) -> None:
        """Answers for a bug of ours: the client gets no more than that, with the id under which the log has the
        rest."""
        try:
            await self._app(scope, receive, entry.send)
        except Exception as error:
            log.error("request_crashed", path=scope["path"], exc_info=error)
            self._metrics.failures.labels(MillstreamError.code).inc()
            if entry.begun:
                raise
            crash = MillstreamError("The server had an error while processing your request. Sorry about that!")
            await error_response(crash, scope)(scope, receive, entry.send)


class _Entry:
    """One request in the access log."""

    def __init__(self, scope: Scope, send: Send) -> None:
        asked = Headers(scope=scope).get("x-request-id", "")
        self.request_id = asked if REQUEST_ID.match(asked) else http_id()
        self.status = 500
        self.begun = False
        self.head_seconds = 0.0
        self._scope = scope
        self._send = send
        self._began = time.monotonic()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.begun = message["status"], True
            self.head_seconds = time.monotonic() - self._began
            message["headers"] = [*message.get("headers", ()), *self._headers()]
        await self._send(message)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        identity = self.request_id.encode("latin-1")
        took = str(int(self.head_seconds * 1000)).encode()
        named = [(b"x-request-id", identity), (b"openai-processing-ms", took), (b"openai-version", b"2020-10-01")]
        if own := spoken(self._scope).id_header:
            named.append((own, identity))
        return named

    @property
    def route(self) -> str:
        """Returns the route's pattern, not the path: a label of few values."""
        return cast(str, getattr(self._scope.get("route"), "path", "unmatched"))

    def facts(self) -> dict[str, object]:
        """Returns the fields of the log event."""
        return {
            "method": self._scope["method"],
            "path": self._scope["path"],
            "status": self.status,
            "seconds": round(time.monotonic() - self._began, 4),
        }


class Authentication:
    """Lets nobody past without a key, but on the open paths; notes the tenant."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(own_path(scope)):
            try:
                keys = cast(Services, scope["app"].state.services).keys
                owner = await authenticate(Headers(scope=scope), keys)
                scope.setdefault("state", {}).update(tenant=owner.tenant, key=owner)
            except MillstreamError as error:
                await error_response(error, scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class ForeignPages:
    """Refuses what a page of elsewhere had a browser send, while no keys are demanded: nothing else would stop it."""

    def __init__(self, app: ASGIApp, rules: BrowserRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = own_path(scope)
            complaint = self._rules.complaint(scope["method"], path, scope["headers"])
            if complaint and not await _keys_demanded(scope):
                await error_response(Forbidden(complaint), scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _keys_demanded(scope: Scope) -> bool:
    """While Redis, which knows it, is away nothing is served but what is open to everybody."""
    try:
        return await cast(Services, scope["app"].state.services).keys.demanded()
    except Unavailable:
        return True


class SizeLimits:
    """Refuses bodies above the limit, by their announced length or as they come, heads above theirs, and heads that do
    not say which host they mean."""

    def __init__(self, app: ASGIApp, body: int, head: int, wide: Mapping[str, int] | None = None) -> None:
        """Limits bodies. `wide`: paths whose bodies (uploads) have a limit of their own."""
        self._app = app
        self._body = body
        self._head = head
        self._wide = wide or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read, limit = 0, self._wide.get(own_path(scope), self._body)

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise HTTPException(413, _limit_text(limit))
            return message

        if (error := self._wrong_head(scope)) is not None:
            await error_response(error, scope)(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            await error_response(BodyTooLarge(_limit_text(limit)), scope)(scope, receive, send)
            return
        await self._app(scope, counted, send)

    def _wrong_head(self, scope: Scope) -> MillstreamError | None:
        size = hosts = 0
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            hosts += name == b"host"
        if size > self._head:
            return HeadTooLarge(f"The request's headers exceed {self._head} bytes.")
        if hosts != 1 and scope["http_version"] == "1.1":  # RFC 9112, 3.2: whoever stands between may have read another
            return BadRequest(f"Invalid headers: expected one 'Host', but got {hosts or 'none'}.")
        return None


def _limit_text(limit: int) -> str:
    return f"The request's body is too large: at most {limit} bytes are accepted."


def spoken(scope: Scope) -> Dialect:
    """Returns the dialect of whoever asks, by the path and, where two APIs share it, the headers."""
    app: DirectApp = scope["app"]
    return dialect_of(own_path(scope), app.dialects, scope["headers"])


def error_response(error: MillstreamError, scope: Scope) -> Response:
    """Returns any error as the clients of the path's API expect it."""
    body = msgspec.json.encode(spoken(scope).error_body(error))
    return Response(body, status_code=wire(error).status, media_type="application/json", headers=error_headers(error))
