"""`POST /v1/completions`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.exchange import Answer, exchange
from gateway.intake.completions import completion_order
from gateway.intake.order import Place
from gateway.openai.completions import CompletionRequest
from gateway.openai.examples import COMPLETION, answers
from gateway.present.completions import CompletionStream, completion_body
from gateway.rooms import InRooms

router = APIRouter(tags=["completions"])


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
