"""`POST /v1/completions`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.completions.examples import COMPLETION
from millstream.gateway.apis.completions.read import prepare_completion
from millstream.gateway.apis.completions.shape import CompletionRequest
from millstream.gateway.apis.completions.write import CompletionStream, completion_body
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.requests.handler import Writers, request_handler
from millstream.gateway.requests.prepared import RequestContext
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["completions"])


@router.post("/v1/completions", summary="Continue a text", responses=answers(COMPLETION))
async def create_completion(body: CompletionRequest, request: Request, services: InServices) -> Response:
    """A whole answer, or a stream of server-sent events. Reconnect with `Last-Event-ID` to read on from any gateway."""
    model = await services.model(body.model)
    place = RequestContext("cmpl", model, services.caller(request), services.settings.max_jobs)
    order, candidates = prepare_completion(body, place, services.settings.default_max_tokens)
    answer = Writers(
        stream=partial(CompletionStream, candidates=candidates, include_usage=order.include_usage),
        whole=partial(completion_body, candidates=candidates),
    )
    return await request_handler(services, request, order).answer(order, answer)
