"""`POST /v1/completions`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.completions.read import completion_order
from millstream.gateway.apis.completions.shape import CompletionRequest
from millstream.gateway.apis.completions.write import CompletionStream, completion_body
from millstream.gateway.apis.shared.examples import COMPLETION, answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.requests.handler import Answer, exchange
from millstream.gateway.requests.prepared import Place
from millstream.gateway.services.services import InRooms

router = APIRouter(tags=["completions"], route_class=JsonRoute)


@router.post("/v1/completions", summary="Continue a text", responses=answers(COMPLETION))
async def create_completion(body: CompletionRequest, request: Request, rooms: InRooms) -> Response:
    """A whole answer, or a stream of server-sent events. Reconnect with `Last-Event-ID` to read on from any gateway."""
    model = await rooms.model(body.model)
    place = Place("cmpl", model, rooms.caller(request), rooms.settings.max_jobs)
    order, candidates = completion_order(body, place, rooms.settings.default_max_tokens)
    answer = Answer(
        stream=partial(CompletionStream, candidates=candidates, include_usage=order.include_usage),
        whole=partial(completion_body, candidates=candidates),
    )
    return await exchange(rooms, request, order).answer(order, answer)
