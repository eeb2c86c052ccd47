"""`POST /v1/chat/completions`."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.common.chunk import NOTHING_YET
from millstream.gateway.apis.chat.read import chat_order
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.chat.stored_route import completions_of
from millstream.gateway.apis.chat.write import ChatStream, chat_body
from millstream.gateway.apis.shared.examples import CHAT, CHAT_STREAM, answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.records.completions import Completions, Kept
from millstream.gateway.requests.accumulator import Fold
from millstream.gateway.requests.admitted import Desk, Ticket
from millstream.gateway.requests.handler import Answer, exchange, fold_all
from millstream.gateway.requests.prepared import Place
from millstream.gateway.requests.response_meta import Head
from millstream.gateway.services.services import InRooms

router = APIRouter(tags=["chat"], route_class=JsonRoute)


@router.post("/v1/chat/completions", summary="Continue a conversation", responses=answers(CHAT, CHAT_STREAM))
async def create_chat_completion(body: ChatRequest, request: Request, rooms: InRooms) -> Response:
    """A whole answer, or a stream of server-sent events. Reconnect with `Last-Event-ID` to read on from any gateway."""
    model = await rooms.model(body.model)
    place = Place("chatcmpl", model, rooms.caller(request), rooms.settings.max_jobs)
    order, tools = chat_order(body, place, rooms.settings.default_max_tokens)
    answer = Answer(
        stream=partial(ChatStream, include_usage=order.include_usage, legacy=tools.legacy),
        whole=partial(chat_body, logprobs=bool(body.logprobs), legacy=tools.legacy),
    )
    if body.store:
        keeping = Keeping(body, answer, Desk(rooms.cluster.dispatch), completions_of(request, rooms))
        answer = keeping.answer()
    return await exchange(rooms, request, order).answer(order, answer)


class Keeping:
    """An answer that is stored when it is complete. A stream's text is read once more from the log, so that the token
    path carries nothing for it."""

    def __init__(self, body: ChatRequest, answer: Answer, desk: Desk, completions: Completions) -> None:
        self._body = body
        self._answer = answer
        self._desk = desk
        self._completions = completions
        self._written: dict[str, Any] | None = None

    def answer(self) -> Answer:
        """The same answer, kept."""
        return Answer(whole=self._whole, stream=self._answer.stream, ended=self._ended)

    def _whole(self, head: Head, folds: list[Fold]) -> dict[str, Any]:
        self._written = self._answer.whole(head, folds)
        return self._written

    async def _ended(self, ticket: Ticket, complete: bool) -> None:
        if not complete:
            return
        if self._written is None:
            flow = self._desk.follow(ticket, [NOTHING_YET] * len(ticket.jobs))
            self._written = self._answer.whole(ticket.head(), await fold_all(flow, len(ticket.jobs)))
        messages = [message.model_dump(exclude_none=True) for message in self._body.messages]
        completion = self._written | {"metadata": self._body.metadata or {}}
        await self._completions.put(Kept(completion, messages))
