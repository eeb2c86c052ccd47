"""Every exception that reaches the edge of the app, as an HTTP answer in OpenAI's shape."""

import re
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from millstream.common.errors import BadRequest, BodyTooLarge, MillstreamError
from millstream.gateway.errors.table import FieldError, UnknownRoute, UpgradeRefused, WrongMethod, wire
from millstream.gateway.errors.validation import parameter_error
from millstream.gateway.http.middleware import error_response
from millstream.gateway.services.services import services_of

NOT_HERE = {
    "/v1/moderations": "there is no moderation model here",
    "/v1/images": "no model here makes images",
    "/v1/videos": "no model here makes videos",
    "/v1/audio/speech": "no model here speaks",
    "/v1/audio/voice_consents": "no model here speaks",
    "/v1/audio/voices": "no model here speaks",
    "/v1/realtime": "no model here speaks; recordings go to /v1/audio/transcriptions",
    "/v1/fine_tuning": "nothing is trained here",
    "/v1/assistants": "use /v1/responses",
    "/v1/threads": "use /v1/conversations",
    "/v1/vector_stores": "nothing is searched here; use /v1/embeddings",
    "/v1/containers": "no code is run here",
    "/v1/uploads": "upload a file as a whole, to /v1/files",
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
PARAMETER = re.compile(r"\{[^}]*\}")
log = structlog.stdlib.get_logger(part="http")


def handle_faults(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Registers the handlers. `routes`: those of the APIs, which the app's own list may hold folded into their
    routers."""
    app.add_exception_handler(MillstreamError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, partial(_http, [*app.routes, *routes]))
    app.add_exception_handler(UnicodeEncodeError, _no_unicode)


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, MillstreamError)
    services_of(request).metrics.failures.labels(error.code).inc()
    if wire(error).status >= 500:
        log.warning("request_failed", code=error.code, error=error.message)
    return error_response(error, request.scope)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _known(request, parameter_error(error.errors()))


async def _no_unicode(request: Request, error: Exception) -> Response:
    """Answers a body with half a surrogate pair. JSON can spell one, but it is no text: it can neither be stored nor
    sent on. Text that a header or a file of ours cannot carry is our own mistake."""
    assert isinstance(error, UnicodeEncodeError)
    if error.reason != "surrogates not allowed":
        log.error("cannot_encode", error=str(error))
        return await _known(request, MillstreamError("The answer could not be written."))
    return await _known(request, BadRequest("The request holds text that is not valid Unicode (a lone surrogate)."))


async def _http(routes: Sequence[BaseRoute], request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and wants_websocket(request):
        response = await _known(request, UpgradeRefused("There are no WebSockets here: send the request over HTTP."))
        response.headers["upgrade"] = "HTTP/1.1"
        return response
    response = await _known(request, _translated(request, error))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["allow"] = ", ".join(allowed_methods(routes, request.scope))
    return response


def wants_websocket(request: Request) -> bool:
    """Tells whether the client tried to change the connection into a WebSocket."""
    return request.headers.get("upgrade", "").strip().lower() == "websocket"


def allowed_methods(routes: Sequence[BaseRoute], scope: Scope) -> list[str]:
    """Returns the methods that the path allows, by the routes whose own path says most of it literally: what another
    route takes for an id there is no resource beside it."""
    matching = [route for route in routes if route.matches(scope)[0] is not Match.NONE]
    most = max(map(_literal, matching), default=0)
    closest = [route for route in matching if _literal(route) == most]
    asked = (method for method in METHODS if _matches(closest, {**scope, "method": method}))
    return [name for method in asked for name in (["GET", "HEAD"] if method == "GET" else [method])]


def _literal(route: BaseRoute) -> int:
    """Returns how many characters of a route's path are no parameters."""
    return len(PARAMETER.sub("", route.path)) if isinstance(route, Route) else 0


def _matches(routes: list[BaseRoute], scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in routes)


def _not_here(path: str) -> str:
    """Tells more of a path that clients know from OpenAI."""
    return next((f": {why}." for known, why in NOT_HERE.items() if f"{path}/".startswith(f"{known}/")), "")


def _translated(request: Request, error: HTTPException) -> MillstreamError:
    method, path = request.method, request.url.path
    match error.status_code:
        case 404:
            return UnknownRoute(f"Invalid URL ({method} {path}){_not_here(path)}")
        case 405:
            hint = "(HINT: Perhaps you meant to use a different HTTP method?)"
            return WrongMethod(f"Not allowed to {method} on {path}. {hint}")
        case 413:
            return BodyTooLarge(str(error.detail))
        case status if status < 500:
            return FieldError(str(error.detail) or HTTPStatus(status).phrase, param=None, wire_code=None)
        case _:
            return MillstreamError(str(error.detail))
