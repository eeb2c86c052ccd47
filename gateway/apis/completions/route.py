"""`POST /v1/completions`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.completions.examples import COMPLETION, COMPLETION_STREAM
from millstream.gateway.apis.completions.read import candidates, prepare_completion
from millstream.gateway.apis.completions.shape import CompletionRequest
from millstream.gateway.apis.completions.write import CompletionStream, completion_body
from millstream.gateway.apis.endpoint import Api, Endpoint, StreamWriter, WholeWriter
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.apis.shared.read.sampling import check_stream_options
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["completions"], route_class=JsonRoute)


def _whole(body: CompletionRequest) -> WholeWriter:
    return partial(completion_body, candidates=candidates(body))


def _stream(body: CompletionRequest) -> StreamWriter:
    return partial(CompletionStream, candidates=candidates(body), include_usage=check_stream_options(body))


COMPLETIONS = Endpoint(
    path="/v1/completions",
    shape=CompletionRequest,
    id_family="cmpl",
    read=prepare_completion,
    whole=_whole,
    stream=_stream,
    examples=answers(COMPLETION, COMPLETION_STREAM),
)
API = Api(router, [COMPLETIONS])


@router.post(COMPLETIONS.path, summary="Continue a text", responses=COMPLETIONS.examples)
async def create_completion(body: CompletionRequest, request: Request, services: InServices) -> Response:
    """A whole answer, or a stream of server-sent events. Reconnect with `Last-Event-ID` to read on from any gateway."""
    return await COMPLETIONS.answer(body, request, services)
