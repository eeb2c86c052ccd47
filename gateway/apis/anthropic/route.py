"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.admin.anthropic_models import VERSION
from millstream.gateway.apis.anthropic.errors import anthropic_error
from millstream.gateway.apis.anthropic.examples import MESSAGE, MESSAGE_STREAM
from millstream.gateway.apis.anthropic.read import left_out_tools, prepare_count, prepare_message, shown_images
from millstream.gateway.apis.anthropic.shape import CountRequest, MessageRequest
from millstream.gateway.apis.anthropic.write import MessageStream, count_body, message_body
from millstream.gateway.apis.endpoint import Api, Dialect, Endpoint, StreamWriter, WholeWriter
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.services.services import InServices

router = APIRouter(tags=["messages (Anthropic)"], route_class=JsonRoute)


def _whole(body: MessageRequest) -> WholeWriter:
    return message_body


def _stream(body: MessageRequest) -> StreamWriter:
    return MessageStream


def _counted(body: CountRequest) -> WholeWriter:
    return count_body


MESSAGES = Endpoint(
    path="/v1/messages",
    shape=MessageRequest,
    id_family="msg",
    read=prepare_message,
    whole=_whole,
    stream=_stream,
    examples=answers(MESSAGE, MESSAGE_STREAM),
    left_out=left_out_tools,
    images=shown_images,
)
COUNT_TOKENS = Endpoint(
    path="/v1/messages/count_tokens",
    shape=CountRequest,
    id_family="tok",
    read=prepare_count,
    whole=_counted,
    examples=answers({"input_tokens": 12}),
    left_out=left_out_tools,
    images=shown_images,
)
SPOKEN = Dialect(MESSAGES.path, anthropic_error, b"request-id", shared="/v1/models", mark=VERSION.encode())
API = Api(router, [MESSAGES, COUNT_TOKENS], SPOKEN)


@router.post(MESSAGES.path, summary="Continue a conversation (Anthropic's API)", responses=MESSAGES.examples)
async def create_message(body: MessageRequest, request: Request, services: InServices) -> Response:
    """A whole message, or a stream of Anthropic's events."""
    return await MESSAGES.answer(body, request, services)


@router.post(
    COUNT_TOKENS.path, summary="Count a conversation's tokens (Anthropic's API)", responses=COUNT_TOKENS.examples
)
async def count_tokens(body: CountRequest, request: Request, services: InServices) -> Response:
    """Counts the tokens of the message as the model's own template writes it."""
    return await COUNT_TOKENS.answer(body, request, services)
