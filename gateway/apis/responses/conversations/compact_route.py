"""`POST /v1/responses/compact`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.endpoint import Api, Endpoint, WholeWriter
from millstream.gateway.apis.responses.conversations.compact import (
    CompactRequest,
    all_items,
    compact_body,
    prepare_compact,
)
from millstream.gateway.apis.responses.examples import COMPACTION
from millstream.gateway.apis.responses.input.items import shown_images
from millstream.gateway.apis.responses.route import recall_of
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.requests.handler import RequestHandler, Writers
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["responses"], route_class=JsonRoute)


def _compacting(body: CompactRequest, context: RequestContext) -> PreparedRequest:
    return prepare_compact(body, context, [])


def _compacted(body: CompactRequest) -> WholeWriter:
    return partial(compact_body, items=all_items(body, []))


COMPACT = Endpoint(
    path="/v1/responses/compact",
    shape=CompactRequest,
    id_family="resp",
    read=_compacting,
    whole=_compacted,
    examples=answers(COMPACTION),
)
API = Api(router, [COMPACT])


@router.post(COMPACT.path, summary="Make a conversation short", responses=COMPACT.examples)
async def compact_response(body: CompactRequest, request: Request, services: InServices) -> Response:
    """The user's messages, and a summary of all else that the model writes: to be sent as the next turn's input."""
    recall = recall_of(request, services)
    if isinstance(body.input, list):
        body = body.model_copy(update={"input": await recall.referred(body.input)})
    history = await recall.previous(body.previous_response_id)
    shown = shown_images(all_items(body, history))
    order = prepare_compact(body, await COMPACT.context(body.model, request, services, shown), history)
    writers = Writers(whole=partial(compact_body, items=all_items(body, history)))
    return await RequestHandler(services, request, resumable=False).answer(order, writers)
