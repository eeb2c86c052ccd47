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
from millstream.gateway.apis.endpoint import Api, Endpoint, StreamWriter, WholeWriter
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.read.sampling import check_stream_options
from millstream.gateway.records.completions import StoredCompletion, StoredCompletions
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.admitted import AdmittedRequest, Desk
from millstream.gateway.requests.handler import Writers, accumulate_all, request_handler
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["chat"])


def _whole(body: ChatRequest) -> WholeWriter:
    return partial(chat_body, logprobs=bool(body.logprobs), legacy=bool(body.functions))


def _stream(body: ChatRequest) -> StreamWriter:
    return partial(ChatStream, include_usage=check_stream_options(body), legacy=bool(body.functions))


CHAT_COMPLETIONS = Endpoint(
    path="/v1/chat/completions",
    shape=ChatRequest,
    id_family="chatcmpl",
    read=prepare_chat,
    whole=_whole,
    stream=_stream,
    examples=answers(CHAT, CHAT_STREAM),
)
API = Api(router, [CHAT_COMPLETIONS])


@router.post(CHAT_COMPLETIONS.path, summary="Continue a conversation", responses=CHAT_COMPLETIONS.examples)
async def create_chat_completion(body: ChatRequest, request: Request, services: InServices) -> Response:
    """A whole answer, or a stream of server-sent events. Reconnect with `Last-Event-ID` to read on from any gateway."""
    if not body.store:
        return await CHAT_COMPLETIONS.answer(body, request, services)
    order = prepare_chat(body, await CHAT_COMPLETIONS.context(body.model, request, services))
    writers = CHAT_COMPLETIONS.writers(body)
    keeping = Keeping(body, writers, Desk(services.cluster.queue), completions_of(request, services))
    return await request_handler(services, request, order).answer(order, keeping.answer())


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
