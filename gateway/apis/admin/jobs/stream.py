"""`GET /v1/chat/completions/{id}/stream`: an answer read on by its id alone, without the body that asked for it."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from millstream.common.broker.models.job_pages import JobLife
from millstream.common.chunk import NOTHING_YET, Seq
from millstream.common.errors import BadRequest
from millstream.common.request_id import RequestId, parse_request_id
from millstream.gateway.apis.admin.viewer import InViewer, operations_of
from millstream.gateway.apis.chat.examples import CHAT_STREAM
from millstream.gateway.apis.chat.write import ChatStream
from millstream.gateway.requests.admitted import AdmittedRequest
from millstream.gateway.requests.event_id import parse_event_id
from millstream.gateway.requests.handler import RequestHandler, Writers
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["chat"])
STREAM = {"content": {"text/event-stream": {"example": CHAT_STREAM}}}


def no_whole(*_: object) -> dict[str, object]:
    """Never writes: this route only streams."""
    raise AssertionError("only a stream is asked for here")


@router.get(
    "/v1/chat/completions/{id}/stream",
    summary="Read a chat completion's stream again, or on",
    response_class=Response,
    responses={200: {"description": "The rest of the stream", **STREAM}},
)
async def read_stream(
    id: str,
    request: Request,
    viewer: InViewer,
    services: InServices,
    after: Annotated[str | None, Query(description="The last event's id, or the number after its colon.")] = None,
    include_usage: bool = True,
) -> Response:
    """Returns what comes after the event `after` (or the header `Last-Event-ID`), from the beginning without either. It
    can be read by any gateway, while it is made and for as long as it is kept after; several may read at once. Only the
    tenant that asked may read it."""
    identity = parse_request_id(id)
    if identity.family != "chatcmpl":
        raise BadRequest(f"'{id[:80]}' is no chat completion, whose ids begin with 'chatcmpl-'.", param="id")
    life = await operations_of(services).find(identity.jobs()[0], viewer.tenant)
    place = after or request.headers.get("last-event-id")
    admitted = admitted_again(identity, life, seqs_after(identity, place))
    handler = RequestHandler(services, request, resumable=life.fields.get("resumable") == "1")
    writers = Writers(whole=no_whole, stream=partial(ChatStream, include_usage=include_usage))
    return await handler.stream(writers, admitted)


def admitted_again(identity: RequestId, life: JobLife, after: list[Seq]) -> AdmittedRequest:
    """Returns the request that the first job is of, as one to go on with."""
    return AdmittedRequest(identity, life.model, life.tenant, life.tier, identity.jobs(), after)


def seqs_after(identity: RequestId, after: str | None) -> list[Seq]:
    """Returns the place of each choice. Raises `BadRequest` for a place that is none in this request."""
    if not after:
        return [NOTHING_YET] * identity.count
    place = parse_event_id(after if ":" in after else f"{identity.text}:{after}")
    if place.request != identity:
        raise BadRequest(f"Invalid 'after': '{after[:80]}' is a place in another answer.", param="after")
    return place.seqs
