"""`POST /v1/rerank` (also `/rerank`, `/v2/rerank`) and `POST /v1/score` (also `/score`)."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.exchange import Answer, exchange
from gateway.intake.order import Place
from gateway.intake.rerank import rerank_order, score_order, texts
from gateway.openai.examples import RERANKED, SCORES, answers
from gateway.openai.rerank import RerankRequest, ScoreRequest
from gateway.present.results import rerank_body, score_body
from gateway.rooms import InRooms

router = APIRouter(tags=["rerank"])


@router.post("/rerank", include_in_schema=False)
@router.post("/v2/rerank", include_in_schema=False)
@router.post("/v1/rerank", summary="Order documents by a query", responses=answers(RERANKED))
async def rerank(body: RerankRequest, request: Request, rooms: InRooms) -> Response:
    """The documents' indexes and scores, best first."""
    model = await rooms.model(body.model)
    order = rerank_order(body, Place("rerank", model, rooms.caller(request), rooms.settings.max_jobs))
    shown = texts(body) if body.return_documents else None
    return await exchange(rooms, request, order).answer(
        order, Answer(partial(rerank_body, shown=shown, top=body.top_n))
    )


@router.post("/score", include_in_schema=False)
@router.post("/v1/score", summary="Score pairs of texts", responses=answers(SCORES))
async def score(body: ScoreRequest, request: Request, rooms: InRooms) -> Response:
    """A score per pair."""
    model = await rooms.model(body.model)
    order = score_order(body, Place("rerank", model, rooms.caller(request), rooms.settings.max_jobs))
    return await exchange(rooms, request, order).answer(order, Answer(score_body))
