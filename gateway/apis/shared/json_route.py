"""The one way in for JSON: a route that reads its body, parses it once, holds it against its shape, and words what is
wrong with it. FastAPI documents such a route like any other, and can find it; only its handler is ours."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from millstream.gateway.apis.shared.read.body import parsed
from millstream.gateway.connection.disconnect import ClientGone
from millstream.gateway.errors.validation import shaped, wrong_media
from millstream.gateway.services.services import services_of

FORM = "application/x-www-form-urlencoded"  # what `curl -d` calls everything; OpenAI's servers read it as JSON too


class JsonRoute(APIRoute):
    """A route for endpoints `(body, request, services)` that return a `Response`; what the path holds may stand before,
    as text. An endpoint without a body is served as FastAPI does."""

    shape: type[BaseModel] | None = None  # the body's

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Raises `TypeError` for an endpoint of another form, when it is declared."""
        if self.body_field is None:
            return super().get_route_handler()
        parameters = inspect.signature(self.endpoint, eval_str=True).parameters
        if {*parameters} != {"body", "request", "services", *self.param_convertors}:
            raise TypeError(f"{self.path}: expected an endpoint `(body, request, services)`, not {[*parameters]}.")
        self.shape = parameters["body"].annotation
        return self.answer

    async def answer(self, request: Request) -> Response:
        """Returns the endpoint's response. Raises what the endpoint raises, and `BadRequest` for a body of
        another shape."""
        assert self.shape is not None
        body = shaped(self.shape, parsed(await _read(request)))
        return await self.endpoint(body=body, request=request, services=services_of(request), **request.path_params)


async def _read(request: Request) -> bytes:
    """Raises `BadRequest` for what its headers do not call JSON, `ClientGone`."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise wrong_media("Content-Encoding", encoding, "unencoded")
    kind = request.headers.get("content-type", "application/json")
    if not _is_json(kind):
        raise wrong_media("Content-Type", kind, "'application/json'")
    try:
        return await request.body()
    except ClientDisconnect as error:
        raise ClientGone("The client closed the connection before its body was complete.") from error


def _is_json(kind: str) -> bool:
    if kind == "application/json":
        return True
    called = kind.partition(";")[0].strip().lower()
    return called in ("", FORM, "application/json") or (called.startswith("application/") and called.endswith("+json"))
