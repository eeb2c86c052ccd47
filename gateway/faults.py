"""Every exception that reaches the edge of the app, as an HTTP answer in OpenAI's shape."""

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from common.errors import BodyTooLarge, MillstreamError
from gateway.errors import FieldError, UnknownRoute, WrongMethod, wire
from gateway.manners import own_path
from gateway.middleware import error_response
from gateway.rooms import rooms_of
from gateway.validation import field_error

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
log = structlog.stdlib.get_logger(part="http")


def handle_faults(app: FastAPI) -> None:
    """Registers the handlers."""
    app.add_exception_handler(MillstreamError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unknown)


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, MillstreamError)
    rooms_of(request).metrics.failures.labels(error.code).inc()
    if wire(error).status >= 500:
        log.warning("request failed", code=error.code, error=error.message)
    return error_response(error, own_path(request.scope))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _known(request, field_error(error.errors(), error.body))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = await _known(request, _translated(request, error))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["allow"] = ", ".join(allowed_methods(request))
    return response


def allowed_methods(request: Request) -> list[str]:
    """What the path can be asked."""
    routes = request.app.routes
    asked = (method for method in METHODS if _matches(routes, {**request.scope, "method": method}))
    return [name for method in asked for name in (["GET", "HEAD"] if method == "GET" else [method])]


def _matches(routes: list[BaseRoute], scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in routes)


def _translated(request: Request, error: HTTPException) -> MillstreamError:
    method, path = request.method, request.url.path
    match error.status_code:
        case 404:
            return UnknownRoute(f"Invalid URL ({method} {path})")
        case 405:
            hint = "(HINT: Perhaps you meant to use a different HTTP method?)"
            return WrongMethod(f"Not allowed to {method} on {path}. {hint}")
        case 413:
            return BodyTooLarge(str(error.detail))
        case status if status < 500:
            return FieldError(str(error.detail) or HTTPStatus(status).phrase, param=None, wire_code=None)
        case _:
            return MillstreamError(str(error.detail))


async def _unknown(request: Request, error: Exception) -> Response:
    """A bug of ours: the client gets no more than that, the log has the rest (the server's own error handler)."""
    rooms_of(request).metrics.failures.labels(MillstreamError.code).inc()
    log.error("request crashed", path=request.url.path, exc_info=error)
    return error_response(MillstreamError("The server had an error while processing your request. Sorry about that!"))
