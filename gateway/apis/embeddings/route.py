"""`POST /v1/embeddings`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.embeddings.examples import EMBEDDINGS
from millstream.gateway.apis.embeddings.read import prepare_embeddings
from millstream.gateway.apis.embeddings.shape import EmbeddingRequest
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.write.results import embeddings_body
from millstream.gateway.requests.handler import Writers, request_handler
from millstream.gateway.requests.prepared import RequestContext
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["embeddings"])


@router.post("/v1/embeddings", summary="Turn texts into vectors", responses=answers(EMBEDDINGS))
async def create_embeddings(body: EmbeddingRequest, request: Request, services: InServices) -> Response:
    """A vector per input, normalised as the model's own configuration says."""
    model = await services.model(body.model)
    order = prepare_embeddings(
        body, RequestContext("embd", model, services.caller(request), services.settings.max_jobs)
    )
    answer = Writers(whole=partial(embeddings_body, encoding=body.encoding_format or "float"))
    return await request_handler(services, request, order).answer(order, answer)
