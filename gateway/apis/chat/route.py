"""`POST /v1/chat/completions`."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.common.chunk import NOTHING_YET
from millstream.gateway.apis.chat.examples import CHAT, CHAT_STREAM
from millstream.gateway.apis.chat.read import prepare_chat
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.chat.stored_route import completions_of
from millstream.gateway.apis.chat.write import ChatStream, chat_body
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.records.completions import StoredCompletion, StoredCompletions
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.admitted import AdmittedRequest, Desk
from millstream.gateway.requests.handler import Writers, accumulate_all, request_handler
from millstream.gateway.requests.prepared import RequestContext
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["chat"])


@router.post("/v1/chat/completions", summary="Continue a conversation", responses=answers(CHAT, CHAT_STREAM))
async def create_chat_completion(body: ChatRequest, request: Request, services: InServices) -> Response:
    """A whole answer, or a stream of server-sent events. Reconnect with `Last-Event-ID` to read on from any gateway."""
    model = await services.model(body.model)
    place = RequestContext("chatcmpl", model, services.caller(request), services.settings.max_jobs)
    order, tools = prepare_chat(body, place, services.settings.default_max_tokens)
    answer = Writers(
        stream=partial(ChatStream, include_usage=order.include_usage, legacy=tools.legacy),
        whole=partial(chat_body, logprobs=bool(body.logprobs), legacy=tools.legacy),
    )
    if body.store:
        keeping = Keeping(body, answer, Desk(services.cluster.queue), completions_of(request, services))
        answer = keeping.answer()
    return await request_handler(services, request, order).answer(order, answer)


class Keeping:
    """An answer that is stored when it is complete. A stream's text is read once more from the log, so that the token
    path carries nothing for it."""

    def __init__(self, body: ChatRequest, answer: Writers, desk: Desk, completions: StoredCompletions) -> None:
        self._body = body
        self._answer = answer
        self._desk = desk
        self._completions = completions
        self._written: dict[str, Any] | None = None

    def answer(self) -> Writers:
        """The same answer, kept."""
        return Writers(whole=self._whole, stream=self._answer.stream, ended=self._ended)

    def _whole(self, head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
        self._written = self._answer.whole(head, accumulators)
        return self._written

    async def _ended(self, admitted: AdmittedRequest, complete: bool) -> None:
        if not complete:
            return
        if self._written is None:
            flow = self._desk.follow(admitted, [NOTHING_YET] * len(admitted.jobs))
            self._written = self._answer.whole(admitted.head(), await accumulate_all(flow, len(admitted.jobs)))
        messages = [message.model_dump(exclude_none=True) for message in self._body.messages]
        completion = self._written | {"metadata": self._body.metadata or {}}
        await self._completions.put(StoredCompletion(completion, messages))
