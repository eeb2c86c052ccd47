"""`POST /v1/chat/completions`."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.chat.read import prepare_chat
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.chat.stored_route import completions_of
from millstream.gateway.apis.chat.write import ChatStream, chat_body
from millstream.gateway.apis.shared.examples import CHAT, CHAT_STREAM, answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.records.completions import StoredCompletion, StoredCompletions
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.admitted import AdmittedRequest
from millstream.gateway.requests.handler import Writers, request_handler
from millstream.gateway.requests.prepared import RequestContext
from millstream.gateway.requests.presenter import RememberedStream
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.services.background_tasks import BackgroundTasks
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["chat"], route_class=JsonRoute)


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
        keeping = Keeping(body, answer, completions_of(request, services), services.background_tasks)
        answer = keeping.answer()
    return await request_handler(services, request, order).answer(order, answer)


class Keeping:
    """An answer that is stored when it is complete, from what this gateway has itself: Redis may have died meanwhile,
    and have forgotten the end that the client has seen."""

    def __init__(
        self, body: ChatRequest, answer: Writers, completions: StoredCompletions, background_tasks: BackgroundTasks
    ) -> None:
        self._body = body
        self._answer = answer
        self._completions = completions
        self._background_tasks = background_tasks
        self._stream: RememberedStream | None = None
        self._written: dict[str, Any] | None = None

    def answer(self) -> Writers:
        """Returns the same answer, and keeps it."""
        return Writers(whole=self._whole, stream=self._streamed, ended=self._ended)

    def _streamed(self, head: ResponseMeta) -> RememberedStream:
        assert self._answer.stream is not None
        self._stream = RememberedStream(self._answer.stream(head))
        return self._stream

    def _whole(self, head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
        self._written = self._answer.whole(head, accumulators)
        return self._written

    async def _ended(self, admitted: AdmittedRequest, complete: bool) -> None:
        if not complete:
            return
        if self._written is None and self._stream is not None:
            said = [self._stream.said[choice] for choice in range(len(admitted.jobs))]
            self._written = self._answer.whole(admitted.head(), said)
        assert self._written is not None
        messages = [message.model_dump(exclude_none=True) for message in self._body.messages]
        completion = self._written | {"metadata": self._body.metadata or {}}
        kept = StoredCompletion(completion, messages)
        await self._background_tasks.promise(partial(self._completions.put, kept), f"store {kept.id}")
