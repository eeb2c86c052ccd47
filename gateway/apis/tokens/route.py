"""`POST /tokenize` and `POST /detokenize`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.common.job import ModelName
from millstream.gateway.apis.shared.examples import TOKENS, answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.apis.shared.write.results import detokenize_body, tokenize_body
from millstream.gateway.apis.tokens.read import detokenize_order, tokenize_order
from millstream.gateway.apis.tokens.shape import DetokenizeRequest, TokenizeRequest
from millstream.gateway.requests.handler import Answer, exchange
from millstream.gateway.requests.prepared import Place
from millstream.gateway.services.services import InRooms, Rooms

router = APIRouter(tags=["tokens"], route_class=JsonRoute)


@router.post("/v1/tokenize", include_in_schema=False)
@router.post("/tokenize", summary="Turn text or messages into token ids", responses=answers(TOKENS))
async def tokenize(body: TokenizeRequest, request: Request, rooms: InRooms) -> Response:
    """Messages are written by the model's own chat template first."""
    model = await rooms.model(body.model)
    order = tokenize_order(body, Place("tok", model, rooms.caller(request), rooms.settings.max_jobs))
    length = await _context_length(rooms, model)
    whole = partial(tokenize_body, pieces=bool(body.return_token_strs), context_length=length)
    return await exchange(rooms, request, order).answer(order, Answer(whole))


@router.post("/v1/detokenize", include_in_schema=False)
@router.post("/detokenize", summary="Turn token ids into text", responses=answers({"prompt": "Once upon"}))
async def detokenize(body: DetokenizeRequest, request: Request, rooms: InRooms) -> Response:
    """Special tokens are written out."""
    model = await rooms.model(body.model)
    order = detokenize_order(body, Place("tok", model, rooms.caller(request), rooms.settings.max_jobs))
    return await exchange(rooms, request, order).answer(order, Answer(detokenize_body))


async def _context_length(rooms: Rooms, model: ModelName) -> int:
    lengths = [info.context_length for info in await rooms.cluster.directory.models() if info.name == model]
    return lengths[0] if lengths else 0
