"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.anthropic.read import count_order, message_order
from millstream.gateway.apis.anthropic.shape import CountRequest, MessageRequest
from millstream.gateway.apis.anthropic.write import MessageStream, count_body, message_body
from millstream.gateway.apis.shared.examples import MESSAGE, MESSAGE_STREAM, answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.requests.handler import Answer, exchange
from millstream.gateway.requests.prepared import Place
from millstream.gateway.services.services import InRooms

router = APIRouter(tags=["messages (Anthropic)"], route_class=JsonRoute)


@router.post(
    "/v1/messages", summary="Continue a conversation (Anthropic's API)", responses=answers(MESSAGE, MESSAGE_STREAM)
)
async def create_message(body: MessageRequest, request: Request, rooms: InRooms) -> Response:
    """A whole message, or a stream of Anthropic's events."""
    model = await rooms.model(body.model)
    order = message_order(body, Place("msg", model, rooms.caller(request), rooms.settings.max_jobs))
    return await exchange(rooms, request, order).answer(order, Answer(whole=message_body, stream=MessageStream))


@router.post(
    "/v1/messages/count_tokens",
    summary="Count a conversation's tokens (Anthropic's API)",
    responses=answers({"input_tokens": 12}),
)
async def count_tokens(body: CountRequest, request: Request, rooms: InRooms) -> Response:
    """As the model's own template writes it."""
    model = await rooms.model(body.model)
    order = count_order(body, Place("tok", model, rooms.caller(request), rooms.settings.max_jobs))
    return await exchange(rooms, request, order).answer(order, Answer(whole=count_body))
