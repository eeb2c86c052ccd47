"""Finds the routes that take JSON before the framework looks for them.

FastAPI tries its routes one after the other and opens two exit stacks for each request: a quarter of what a request
costs the gateway. A route with a fixed path and a JSON body needs neither: it is looked up in a table, and its own
handler (`JsonRoute.answer`) is called, the same that the framework would call.
"""

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.http.normalize import own_path


def json_routes(routers: Iterable[APIRouter]) -> dict[str, JsonRoute]:
    """Returns, by path, every route that takes a JSON body, except those whose paths hold a parameter."""
    routes = [route for router in routers for route in router.routes if isinstance(route, JsonRoute)]
    return {route.path: route for route in routes if route.shape is not None and not route.param_convertors}


class JsonDispatch:
    """Around the framework, which gets everything else."""

    def __init__(self, app: ASGIApp, framework: FastAPI, routers: Iterable[APIRouter]) -> None:
        """`framework` knows how errors are answered."""
        self._app = app
        self._routes = json_routes(routers)
        self._answering = ExceptionMiddleware(_answer, handlers=framework.exception_handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        posted = scope["type"] == "http" and scope["method"] == "POST"
        route = self._routes.get(own_path(scope)) if posted else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        await self._answering(scope, receive, send)


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    route: JsonRoute = scope["route"]
    response = await route.answer(Request(scope, receive))
    await response(scope, receive, send)
