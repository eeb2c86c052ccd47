"""The short way to the endpoints that take a JSON body, past the framework.

FastAPI finds the route, opens exit stacks, solves dependencies and reads the body in three steps: a fifth of what a
request costs the gateway. Its way stays the general one, and the one it documents. But an endpoint of the form
`(body, request, services)`, asked for with a JSON body of the right shape, needs none of that and is called at once.
Whatever is not ordinary (another content type, a body that does not fit) goes the general way, as if nobody had
looked at it, and is answered there.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millstream.gateway.http.middleware import FORM
from millstream.gateway.http.normalize import own_path
from millstream.gateway.services.services import Services, services_of

JSON = b"application/json"
WAY = "millstream.way"  # in the scope: the endpoint that was found


@dataclass(frozen=True, slots=True)
class Way:
    """One endpoint, and the shape of its body."""

    route: APIRoute
    shape: type[BaseModel]
    endpoint: Callable[[Any, Request, Services], Awaitable[Response]]


def short_ways(routers: Iterable[APIRouter]) -> dict[str, Way]:
    """By path: every endpoint that takes a body, the request and the services, and nothing else."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    ways = {route.path: _way(route) for route in routes if route.methods == {"POST"}}
    return {path: way for path, way in ways.items() if way is not None}


def _way(route: APIRoute) -> Way | None:
    parameters = inspect.signature(route.endpoint, eval_str=True).parameters
    if list(parameters) != ["body", "request", "services"]:
        return None
    return Way(route, parameters["body"].annotation, route.endpoint)


class JsonRoute:
    """Around the framework."""

    def __init__(self, app: ASGIApp, framework: FastAPI, ways: Mapping[str, Way]) -> None:
        """`framework` knows how errors are answered."""
        self._general = app
        self._ways = ways
        self._short = ExceptionMiddleware(self._answer, handlers=framework.exception_handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        way = self._ways.get(own_path(scope)) if scope["type"] == "http" and scope["method"] == "POST" else None
        if way is None or not is_json(scope):
            await self._general(scope, receive, send)
            return
        scope["route"], scope[WAY] = way.route, way
        await self._short(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        way, request, raw = cast(Way, scope[WAY]), Request(scope, receive), None
        try:
            raw = await request.body()
            body = way.shape.model_validate_json(raw)
        except (ValidationError, ClientDisconnect):
            await self._general(scope, replayed(raw, receive), send)
            return
        response = await way.endpoint(body, request, services_of(request))
        await response(scope, receive, send)


def is_json(scope: Scope) -> bool:
    """Whether the body is called JSON, or a form, which is what `curl -d` calls everything."""
    called = next((value for name, value in scope["headers"] if name == b"content-type"), JSON)
    return called == JSON or called.partition(b";")[0].strip().lower() == JSON or called.startswith(FORM)


def replayed(body: bytes | None, receive: Receive) -> Receive:
    """The messages again of a request whose body has been read, if it has."""
    unread: list[Message] = [] if body is None else [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return unread.pop() if unread else await receive()

    return again
