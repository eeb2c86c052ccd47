"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.anthropic.examples import MESSAGE, MESSAGE_STREAM
from millstream.gateway.apis.anthropic.read import prepare_count, prepare_message
from millstream.gateway.apis.anthropic.shape import CountRequest, MessageRequest
from millstream.gateway.apis.anthropic.write import MessageStream, count_body, message_body
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.requests.handler import Writers, request_handler
from millstream.gateway.requests.prepared import RequestContext
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["messages (Anthropic)"])


@router.post(
    "/v1/messages", summary="Continue a conversation (Anthropic's API)", responses=answers(MESSAGE, MESSAGE_STREAM)
)
async def create_message(body: MessageRequest, request: Request, services: InServices) -> Response:
    """A whole message, or a stream of Anthropic's events."""
    model = await services.model(body.model)
    order = prepare_message(body, RequestContext("msg", model, services.caller(request), services.settings.max_jobs))
    return await request_handler(services, request, order).answer(
        order, Writers(whole=message_body, stream=MessageStream)
    )


@router.post(
    "/v1/messages/count_tokens",
    summary="Count a conversation's tokens (Anthropic's API)",
    responses=answers({"input_tokens": 12}),
)
async def count_tokens(body: CountRequest, request: Request, services: InServices) -> Response:
    """As the model's own template writes it."""
    model = await services.model(body.model)
    order = prepare_count(body, RequestContext("tok", model, services.caller(request), services.settings.max_jobs))
    return await request_handler(services, request, order).answer(order, Writers(whole=count_body))
