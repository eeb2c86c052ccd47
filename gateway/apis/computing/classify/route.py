"""`POST /v1/classify` (also `/classify`), `POST /v1/token_classify` and `POST /v1/fill_mask`."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.computing.classify.examples import CLASSIFIED, FILLED, TOKENS_CLASSIFIED
from millstream.gateway.apis.computing.classify.read import prepare_classify, prepare_fill_mask, prepare_token_classify
from millstream.gateway.apis.computing.classify.shape import ClassifyRequest, FillMaskRequest, TokenClassifyRequest
from millstream.gateway.apis.computing.classify.write import classify_body, fill_mask_body, token_classify_body
from millstream.gateway.apis.endpoint import Api, Endpoint, WholeWriter
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["classes"], route_class=JsonRoute)


def _classified(body: ClassifyRequest) -> WholeWriter:
    return classify_body


def _tokens_classified(body: TokenClassifyRequest) -> WholeWriter:
    return token_classify_body


def _filled(body: FillMaskRequest) -> WholeWriter:
    return fill_mask_body


CLASSIFY = Endpoint(
    path="/v1/classify",
    shape=ClassifyRequest,
    id_family="classify",
    read=prepare_classify,
    whole=_classified,
    examples=answers(CLASSIFIED),
)
TOKEN_CLASSIFY = Endpoint(
    path="/v1/token_classify",
    shape=TokenClassifyRequest,
    id_family="classify",
    read=prepare_token_classify,
    whole=_tokens_classified,
    examples=answers(TOKENS_CLASSIFIED),
)
FILL_MASK = Endpoint(
    path="/v1/fill_mask",
    shape=FillMaskRequest,
    id_family="classify",
    read=prepare_fill_mask,
    whole=_filled,
    examples=answers(FILLED),
)
API = Api(router, [CLASSIFY, TOKEN_CLASSIFY, FILL_MASK])


@router.post("/classify", include_in_schema=False)
@router.post(CLASSIFY.path, summary="Tell the class of each text", responses=CLASSIFY.examples)
async def classify(body: ClassifyRequest, request: Request, services: InServices) -> Response:
    """The likeliest class of each text, and the probability of all."""
    return await CLASSIFY.answer(body, request, services)


@router.post(TOKEN_CLASSIFY.path, summary="Tell the class of each token", responses=TOKEN_CLASSIFY.examples)
async def token_classify(body: TokenClassifyRequest, request: Request, services: InServices) -> Response:
    """The likeliest class of each token of each text, and where the token stands."""
    return await TOKEN_CLASSIFY.answer(body, request, services)


@router.post(FILL_MASK.path, summary="Fill gaps in texts", responses=FILL_MASK.examples)
async def fill_mask(body: FillMaskRequest, request: Request, services: InServices) -> Response:
    """The likeliest tokens for each gap that the model's mask token marks."""
    return await FILL_MASK.answer(body, request, services)
