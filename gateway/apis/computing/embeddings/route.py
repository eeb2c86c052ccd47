"""`POST /v1/embeddings`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.computing.embeddings.examples import EMBEDDINGS
from millstream.gateway.apis.computing.embeddings.read import prepare_embeddings
from millstream.gateway.apis.computing.embeddings.shape import EmbeddingRequest
from millstream.gateway.apis.endpoint import Api, Endpoint, WholeWriter
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.apis.shared.write.results import embeddings_body
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["embeddings"], route_class=JsonRoute)


def _whole(body: EmbeddingRequest) -> WholeWriter:
    return partial(embeddings_body, encoding=body.encoding_format or "float")


EMBEDDING = Endpoint(
    path="/v1/embeddings",
    shape=EmbeddingRequest,
    id_family="embd",
    read=prepare_embeddings,
    whole=_whole,
    examples=answers(EMBEDDINGS),
)
API = Api(router, [EMBEDDING])


@router.post(EMBEDDING.path, summary="Turn texts into vectors", responses=EMBEDDING.examples)
async def create_embeddings(body: EmbeddingRequest, request: Request, services: InServices) -> Response:
    """A vector per input, normalised as the model's own configuration says."""
    return await EMBEDDING.answer(body, request, services)
