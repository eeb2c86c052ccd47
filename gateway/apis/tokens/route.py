"""`POST /tokenize` and `POST /detokenize`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.common.job import ModelName
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.write.results import detokenize_body, tokenize_body
from millstream.gateway.apis.tokens.examples import TOKENS
from millstream.gateway.apis.tokens.read import prepare_detokenize, prepare_tokenize
from millstream.gateway.apis.tokens.shape import DetokenizeRequest, TokenizeRequest
from millstream.gateway.requests.handler import Writers, request_handler
from millstream.gateway.requests.prepared import RequestContext
from millstream.gateway.services.services import InServices, Services

router = APIRouter(tags=["tokens"])


@router.post("/v1/tokenize", include_in_schema=False)
@router.post("/tokenize", summary="Turn text or messages into token ids", responses=answers(TOKENS))
async def tokenize(body: TokenizeRequest, request: Request, services: InServices) -> Response:
    """Messages are written by the model's own chat template first."""
    model = await services.model(body.model)
    order = prepare_tokenize(body, RequestContext("tok", model, services.caller(request), services.settings.max_jobs))
    length = await _context_length(services, model)
    whole = partial(tokenize_body, pieces=bool(body.return_token_strs), context_length=length)
    return await request_handler(services, request, order).answer(order, Writers(whole))


@router.post("/v1/detokenize", include_in_schema=False)
@router.post("/detokenize", summary="Turn token ids into text", responses=answers({"prompt": "Once upon"}))
async def detokenize(body: DetokenizeRequest, request: Request, services: InServices) -> Response:
    """Special tokens are written out."""
    model = await services.model(body.model)
    order = prepare_detokenize(body, RequestContext("tok", model, services.caller(request), services.settings.max_jobs))
    return await request_handler(services, request, order).answer(order, Writers(detokenize_body))


async def _context_length(services: Services, model: ModelName) -> int:
    lengths = [info.context_length for info in await services.cluster.directory.models() if info.name == model]
    return lengths[0] if lengths else 0
