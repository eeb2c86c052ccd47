"""`POST /tokenize` and `POST /detokenize`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.common.job import ModelName
from millstream.gateway.apis.computing.tokens.examples import TOKENS
from millstream.gateway.apis.computing.tokens.read import prepare_detokenize, prepare_tokenize
from millstream.gateway.apis.computing.tokens.shape import DetokenizeRequest, TokenizeRequest
from millstream.gateway.apis.endpoint import Api, Endpoint, WholeWriter
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.apis.shared.write.results import detokenize_body, tokenize_body
from millstream.gateway.requests.handler import Writers, request_handler
from millstream.gateway.services.services import InServices, Services

router = APIRouter(tags=["tokens"], route_class=JsonRoute)


def _tokens(body: TokenizeRequest) -> WholeWriter:
    """The context length is not in the body: the route, which can ask for it, gives it."""
    return partial(tokenize_body, pieces=bool(body.return_token_strs), context_length=0)


def _text(body: DetokenizeRequest) -> WholeWriter:
    return detokenize_body


TOKENIZE = Endpoint(
    path="/tokenize",
    shape=TokenizeRequest,
    id_family="tok",
    read=prepare_tokenize,
    whole=_tokens,
    examples=answers(TOKENS),
)
DETOKENIZE = Endpoint(
    path="/detokenize",
    shape=DetokenizeRequest,
    id_family="tok",
    read=prepare_detokenize,
    whole=_text,
    examples=answers({"prompt": "Once upon"}),
)
API = Api(router, [TOKENIZE, DETOKENIZE])


@router.post("/v1/tokenize", include_in_schema=False)
@router.post(TOKENIZE.path, summary="Turn text or messages into token ids", responses=TOKENIZE.examples)
async def tokenize(body: TokenizeRequest, request: Request, services: InServices) -> Response:
    """Messages are written by the model's own chat template first."""
    context = await TOKENIZE.context(body.model, request, services)
    order = prepare_tokenize(body, context)
    length = await _context_length(services, context.model)
    whole = partial(tokenize_body, pieces=bool(body.return_token_strs), context_length=length)
    return await request_handler(services, request, order).answer(order, Writers(whole))


@router.post("/v1/detokenize", include_in_schema=False)
@router.post(DETOKENIZE.path, summary="Turn token ids into text", responses=DETOKENIZE.examples)
async def detokenize(body: DetokenizeRequest, request: Request, services: InServices) -> Response:
    """Special tokens are written out."""
    return await DETOKENIZE.answer(body, request, services)


async def _context_length(services: Services, model: ModelName) -> int:
    lengths = [info.context_length for info in await services.cluster.directory.models() if info.name == model]
    return lengths[0] if lengths else 0
