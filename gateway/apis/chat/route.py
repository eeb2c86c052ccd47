"""`POST /v1/chat/completions`."""

from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.common.errors import MillstreamError
from millstream.gateway.apis.chat.examples import CHAT, CHAT_STREAM
from millstream.gateway.apis.chat.keeping import Keeping, draft_of
from millstream.gateway.apis.chat.read import form_of, prepare_chat
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.chat.stored_route import completions_of, promised_of
from millstream.gateway.apis.chat.write import ChatStream, chat_body
from millstream.gateway.apis.endpoint import Api, Endpoint, StreamWriter, WholeWriter
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.apis.shared.read.hosted import families_of
from millstream.gateway.apis.shared.read.messages import shown_images
from millstream.gateway.apis.shared.read.sampling import check_stream_options
from millstream.gateway.requests.handler import request_handler
from millstream.gateway.requests.prepared import PreparedRequest
from millstream.gateway.services.services import InServices, Services

router = APIRouter(tags=["chat"], route_class=JsonRoute)


def _whole(body: ChatRequest) -> WholeWriter:
    return partial(chat_body, logprobs=bool(body.logprobs), form=form_of(body))


def _stream(body: ChatRequest) -> StreamWriter:
    return partial(ChatStream, include_usage=check_stream_options(body), form=form_of(body))


def _left_out(body: ChatRequest) -> list[str]:
    return families_of(tool.type for tool in body.tools or [])


def _images(body: ChatRequest) -> list[str]:
    return shown_images(body.messages)


CHAT_COMPLETIONS = Endpoint(
    path="/v1/chat/completions",
    shape=ChatRequest,
    id_family="chatcmpl",
    read=prepare_chat,
    whole=_whole,
    stream=_stream,
    examples=answers(CHAT, CHAT_STREAM),
    left_out=_left_out,
    images=_images,
)
API = Api(router, [CHAT_COMPLETIONS])


@router.post(CHAT_COMPLETIONS.path, summary="Continue a conversation", responses=CHAT_COMPLETIONS.examples)
async def create_chat_completion(body: ChatRequest, request: Request, services: InServices) -> Response:
    """A whole answer, or a stream of server-sent events. Reconnect with `Last-Event-ID` to read on from any gateway."""
    if not body.store:
        return await CHAT_COMPLETIONS.answer(body, request, services)
    completions = completions_of(request, services)
    await completions.check_room()
    order = prepare_chat(body, await CHAT_COMPLETIONS.context(body.model, request, services, _images(body)))
    order = replace(order, submission=replace(order.submission, kept=True))
    return CHAT_COMPLETIONS.noted(body, await _stored(body, order, request, services), services)


async def _stored(body: ChatRequest, order: PreparedRequest, request: Request, services: Services) -> Response:
    """An answer that is stored at its end. The draft is there before the client hears of the answer."""
    exchange = request_handler(services, request, order)
    admitted = await exchange.admit(order)
    promised = promised_of(request, services)
    draft = draft_of(body, admitted.model, admitted.tier)
    if not admitted.resumed:
        try:
            await promised.promise(admitted.id.text, draft, order.submission.timeout + services.settings.retention)
        except MillstreamError:
            await services.cluster.queue.cancel(admitted.model, admitted.jobs)
            raise
    keeping = Keeping(draft, CHAT_COMPLETIONS.writers(body), promised, services.background_tasks)
    return await exchange.answer(order, keeping.answer(), admitted)
