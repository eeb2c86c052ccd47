"""`POST /v1/rerank` (also `/rerank`, `/v2/rerank`) and `POST /v1/score` (also `/score`)."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.computing.rerank.examples import RERANKED, SCORES
from millstream.gateway.apis.computing.rerank.read import prepare_rerank, prepare_score, texts
from millstream.gateway.apis.computing.rerank.shape import RerankRequest, ScoreRequest
from millstream.gateway.apis.endpoint import Api, Endpoint, WholeWriter
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.apis.shared.write.results import rerank_body, score_body
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["rerank"], route_class=JsonRoute)


def _ranked(body: RerankRequest) -> WholeWriter:
    return partial(rerank_body, shown=texts(body) if body.return_documents else None, top=body.top_n)


def _scored(body: ScoreRequest) -> WholeWriter:
    return score_body


RERANK = Endpoint(
    path="/v1/rerank",
    shape=RerankRequest,
    id_family="rerank",
    read=prepare_rerank,
    whole=_ranked,
    examples=answers(RERANKED),
)
SCORE = Endpoint(
    path="/v1/score",
    shape=ScoreRequest,
    id_family="rerank",
    read=prepare_score,
    whole=_scored,
    examples=answers(SCORES),
)
API = Api(router, [RERANK, SCORE])


@router.post("/rerank", include_in_schema=False)
@router.post("/v2/rerank", include_in_schema=False)
@router.post(RERANK.path, summary="Order documents by a query", responses=RERANK.examples)
async def rerank(body: RerankRequest, request: Request, services: InServices) -> Response:
    """The documents' indexes and scores, best first."""
    return await RERANK.answer(body, request, services)


@router.post("/score", include_in_schema=False)
@router.post(SCORE.path, summary="Score pairs of texts", responses=SCORE.examples)
async def score(body: ScoreRequest, request: Request, services: InServices) -> Response:
    """A score per pair."""
    return await SCORE.answer(body, request, services)
