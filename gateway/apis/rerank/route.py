"""`POST /v1/rerank` (also `/rerank`, `/v2/rerank`) and `POST /v1/score` (also `/score`)."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.rerank.examples import RERANKED, SCORES
from millstream.gateway.apis.rerank.read import prepare_rerank, prepare_score, texts
from millstream.gateway.apis.rerank.shape import RerankRequest, ScoreRequest
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.write.results import rerank_body, score_body
from millstream.gateway.requests.handler import Writers, request_handler
from millstream.gateway.requests.prepared import RequestContext
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["rerank"])


@router.post("/rerank", include_in_schema=False)
@router.post("/v2/rerank", include_in_schema=False)
@router.post("/v1/rerank", summary="Order documents by a query", responses=answers(RERANKED))
async def rerank(body: RerankRequest, request: Request, services: InServices) -> Response:
    """The documents' indexes and scores, best first."""
    model = await services.model(body.model)
    order = prepare_rerank(body, RequestContext("rerank", model, services.caller(request), services.settings.max_jobs))
    shown = texts(body) if body.return_documents else None
    return await request_handler(services, request, order).answer(
        order, Writers(partial(rerank_body, shown=shown, top=body.top_n))
    )


@router.post("/score", include_in_schema=False)
@router.post("/v1/score", summary="Score pairs of texts", responses=answers(SCORES))
async def score(body: ScoreRequest, request: Request, services: InServices) -> Response:
    """A score per pair."""
    model = await services.model(body.model)
    order = prepare_score(body, RequestContext("rerank", model, services.caller(request), services.settings.max_jobs))
    return await request_handler(services, request, order).answer(order, Writers(score_body))
