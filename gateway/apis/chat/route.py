"""`POST /v1/chat/completions`."""

from functools import partial
from typing import Any

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.common.errors import QuotaExceeded
from millstream.gateway.apis.chat.examples import CHAT, CHAT_STREAM
from millstream.gateway.apis.chat.read import prepare_chat
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.chat.stored_route import completions_of
from millstream.gateway.apis.chat.write import ChatForm, ChatStream, chat_body
from millstream.gateway.apis.endpoint import Api, Endpoint, StreamWriter, WholeWriter
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.apis.shared.read.hosted import families_of
from millstream.gateway.apis.shared.read.sampling import check_stream_options, wants_running_usage
from millstream.gateway.records.completions import StoredCompletion, StoredCompletions
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.admitted import AdmittedRequest
from millstream.gateway.requests.handler import Writers, request_handler
from millstream.gateway.requests.presenter import RememberedStream
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.services.background_tasks import BackgroundTasks
from millstream.gateway.services.services import InServices

log = structlog.stdlib.get_logger(part="chat")
router = APIRouter(tags=["chat"], route_class=JsonRoute)


def _whole(body: ChatRequest) -> WholeWriter:
    return partial(chat_body, logprobs=bool(body.logprobs), form=_form(body))


def _stream(body: ChatRequest) -> StreamWriter:
    return partial(ChatStream, include_usage=check_stream_options(body), form=_form(body))


def _form(body: ChatRequest) -> ChatForm:
    customs = frozenset(tool.custom.name for tool in body.tools or [] if tool.type == "custom" and tool.custom)
    return ChatForm(
        bool(body.functions),
        customs,
        token_ids=bool(body.return_token_ids),
        prompt_logprobs=body.prompt_logprobs is not None,
        running_usage=wants_running_usage(body),
    )


def _left_out(body: ChatRequest) -> list[str]:
    return families_of(tool.type for tool in body.tools or [])


CHAT_COMPLETIONS = Endpoint(
    path="/v1/chat/completions",
    shape=ChatRequest,
    id_family="chatcmpl",
    read=prepare_chat,
    whole=_whole,
    stream=_stream,
    examples=answers(CHAT, CHAT_STREAM),
    left_out=_left_out,
)
API = Api(router, [CHAT_COMPLETIONS])


@router.post(CHAT_COMPLETIONS.path, summary="Continue a conversation", responses=CHAT_COMPLETIONS.examples)
async def create_chat_completion(body: ChatRequest, request: Request, services: InServices) -> Response:
    """A whole answer, or a stream of server-sent events. Reconnect with `Last-Event-ID` to read on from any gateway."""
    if not body.store:
        return await CHAT_COMPLETIONS.answer(body, request, services)
    completions = completions_of(request, services)
    await completions.check_room()
    order = prepare_chat(body, await CHAT_COMPLETIONS.context(body.model, request, services))
    writers = CHAT_COMPLETIONS.writers(body)
    keeping = Keeping(body, writers, completions, services.background_tasks)
    response = await request_handler(services, request, order).answer(order, keeping.answer())
    return CHAT_COMPLETIONS.noted(body, response, services)


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
        await self._background_tasks.promise(partial(self._put, kept), f"store {kept.id}")

    async def _put(self, kept: StoredCompletion) -> None:
        try:
            await self._completions.put(kept)
        except QuotaExceeded as error:  # others of the tenant took the room meanwhile; the answer itself is good
            log.warning("completion_not_stored", completion=kept.id, error=error.message)
