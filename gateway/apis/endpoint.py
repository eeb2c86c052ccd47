"""One API route that makes jobs, as a record: what its body is, how it is read, and how its answer is written. The
route, the background processes and `/openapi.json` all go by it, so that a new API is one folder and one line in
`gateway.apis.registry`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.common.errors import MillstreamError
from millstream.common.job import ModelName
from millstream.common.request_id import Family
from millstream.gateway.errors.table import error_object
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.handler import Writers, request_handler
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext
from millstream.gateway.requests.presenter import Presenter
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.requests.vision import Vision
from millstream.gateway.services.caller import Caller
from millstream.gateway.services.services import Services
from millstream.gateway.settings import IntakeSettings

WholeWriter = Callable[[ResponseMeta, list[Accumulator]], dict[str, Any]]
StreamWriter = Callable[[ResponseMeta], Presenter]


class ModelRequest(Protocol):
    """A request body: one of pydantic's models that names the model it is for."""

    @property
    def model(self) -> str: ...

    @classmethod
    def model_validate(cls, obj: Any, /) -> Self: ...


B = TypeVar("B", bound=ModelRequest)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The form in which the clients of an API read its errors. It is spoken on every path that begins with `prefix`,
    also where there is no route."""

    prefix: str
    error_body: Callable[[MillstreamError], dict[str, Any]]
    id_header: bytes = b""  # where these clients look for the request's id, beside `x-request-id`
    shared: str = ""  # the beginning of paths that OpenAI's clients ask for as well
    mark: bytes = b""  # the header by which this API's clients are known there


OPENAI = Dialect("/", error_object)
LEFT_OUT = "x-millstream-tools-left-out"  # the tools that were offered and that nobody runs here, by family


def context_of(family: Family, model: ModelName, caller: Caller, settings: IntakeSettings) -> RequestContext:
    """Returns the context of a request, by the settings of the process that reads it."""
    clamp = settings.excess_max_tokens == "clamp"
    return RequestContext(family, model, caller, settings.max_jobs, settings.default_max_tokens, clamp=clamp)


async def vision_of(model: ModelName, images: Sequence[str], services: Services) -> Vision | None:
    """Returns what the model may be shown, images at addresses fetched; None for a model that does not see. Raises
    `BadRequest`."""
    models = await services.cluster.directory.models()
    if not any("images" in info.capabilities for info in models if info.name == model):
        return None
    had = await services.images.fetch(images)
    return Vision(services.settings.max_image_bytes, services.settings.max_image_pixels, had.fetched, had.failed)


def nothing_left_out(body: object) -> list[str]:
    """Is the `left_out` of an endpoint whose bodies have no tools."""
    return []


def no_images(body: object) -> list[str]:
    """Is the `images` of an endpoint whose bodies show none."""
    return []


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[B]):
    """A route that makes jobs. Everything but `path`, `shape` and `examples` is a function of the body, so that
    whoever has a body can have it answered, also without HTTP."""

    path: str
    shape: type[B]
    id_family: Family
    read: Callable[[B, RequestContext], PreparedRequest]  # raises `BadRequest` naming the field at fault
    whole: Callable[[B], WholeWriter]
    examples: dict[int | str, dict[str, Any]]  # what FastAPI calls `responses`
    stream: Callable[[B], StreamWriter] | None = None  # None: it answers only as a whole
    left_out: Callable[[B], list[str]] = nothing_left_out
    images: Callable[[B], list[str]] = no_images

    def writers(self, body: B) -> Writers:
        """Returns how the answer to this body is written."""
        return Writers(whole=self.whole(body), stream=None if self.stream is None else self.stream(body))

    async def context(
        self, asked: str, request: Request, services: Services, images: Sequence[str] = ()
    ) -> RequestContext:
        """Returns the context of a request for the model `asked`, by what its headers say. `images`: those that it is
        shown, of which addresses are fetched if the model sees. Raises `BadRequest`."""
        settings = services.settings
        model, caller = await services.model(asked), services.caller(request)
        context = context_of(self.id_family, model, caller, settings)
        return replace(context, vision=await vision_of(model, images, services)) if images else context

    async def answer(self, body: B, request: Request, services: Services) -> Response:
        """Returns the response to an ordinary request. Raises what keeps the answer from beginning."""
        order = self.read(body, await self.context(body.model, request, services, self.images(body)))
        response = await request_handler(services, request, order).answer(order, self.writers(body))
        return self.noted(body, response, services)

    def noted(self, body: B, response: Response, services: Services) -> Response:
        """Returns the response that tells which of the offered tools were left out; they are counted, too."""
        if families := self.left_out(body):
            response.headers[LEFT_OUT] = ", ".join(families)
            for family in families:
                services.metrics.tools_left_out.labels(family).inc()
        return response


@dataclass(frozen=True, slots=True)
class Api:
    """The API that one folder presents: its routes, those of them that make jobs, and the dialect if it is its own."""

    router: APIRouter
    endpoints: Sequence[Endpoint[Any]] = ()
    dialect: Dialect = OPENAI


def dialect_of(path: str, dialects: Sequence[Dialect], headers: Sequence[tuple[bytes, bytes]] = ()) -> Dialect:
    """Returns the first dialect whose paths `path` is among; OpenAI's for all others. `headers`: of the request, whose
    names tell whose client asks for a path that two APIs share."""
    for each in dialects:  # a loop, because a generator costs more than all it does
        if path.startswith(each.prefix):
            return each
        if each.shared and path.startswith(each.shared) and any(name == each.mark for name, _ in headers):
            return each
    return OPENAI
