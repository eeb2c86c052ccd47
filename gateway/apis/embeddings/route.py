"""`POST /v1/embeddings`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.embeddings.read import embedding_order
from millstream.gateway.apis.embeddings.shape import EmbeddingRequest
from millstream.gateway.apis.shared.examples import EMBEDDINGS, answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.apis.shared.write.results import embeddings_body
from millstream.gateway.requests.handler import Answer, exchange
from millstream.gateway.requests.prepared import Place
from millstream.gateway.services.services import InRooms

router = APIRouter(tags=["embeddings"], route_class=JsonRoute)


@router.post("/v1/embeddings", summary="Turn texts into vectors", responses=answers(EMBEDDINGS))
async def create_embeddings(body: EmbeddingRequest, request: Request, rooms: InRooms) -> Response:
    """A vector per input, normalised as the model's own configuration says."""
    model = await rooms.model(body.model)
    order = embedding_order(body, Place("embd", model, rooms.caller(request), rooms.settings.max_jobs))
    answer = Answer(whole=partial(embeddings_body, encoding=body.encoding_format or "float"))
    return await exchange(rooms, request, order).answer(order, answer)
