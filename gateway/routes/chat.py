"""`POST /v1/chat/completions`."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.exchange import Answer, exchange
from gateway.intake.chat import chat_order
from gateway.intake.order import Place
from gateway.openai.chat import ChatRequest
from gateway.present.chat import ChatStream, chat_body
from gateway.rooms import InRooms

router = APIRouter(tags=["chat"])


@router.post("/v1/chat/completions", summary="Continue a conversation")
async def create_chat_completion(body: ChatRequest, request: Request, rooms: InRooms) -> Response:
    """A whole answer, or a stream of server-sent events. Reconnect with `Last-Event-ID` to read on from any gateway."""
    model = await rooms.model(body.model)
    place = Place("chatcmpl", model, rooms.caller(request), rooms.settings.max_jobs)
    order, tools = chat_order(body, place, rooms.settings.default_max_tokens)
    answer = Answer(
        stream=partial(ChatStream, include_usage=order.include_usage, legacy=tools.legacy),
        whole=partial(chat_body, logprobs=bool(body.logprobs), legacy=tools.legacy),
    )
    return await exchange(rooms, request, order).answer(order, answer)
