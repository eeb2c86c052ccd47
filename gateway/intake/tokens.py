"""`POST /tokenize` and `POST /detokenize` to orders: the worker that knows the model counts its tokens."""

from common.errors import BadRequest
from common.job import JobRequest, TokenizeInput
from gateway.intake.messages import template_messages
from gateway.intake.order import Order, Place, order
from gateway.openai.tokens import DetokenizeRequest, TokenizeRequest


def tokenize_order(body: TokenizeRequest, place: Place) -> Order:
    """Raises `BadRequest` unless there is exactly one of a prompt and messages."""
    if (body.prompt is None) == (body.messages is None):
        raise BadRequest("Exactly one of 'prompt' and 'messages' must be given.", param="prompt")
    special = body.add_special_tokens is not False
    messages = None if body.messages is None else template_messages(body.messages)
    work = TokenizeInput(text=body.prompt, messages=messages, add_special_tokens=special)
    return order(place, body, [JobRequest(work)])


def detokenize_order(body: DetokenizeRequest, place: Place) -> Order:
    """One job."""
    return order(place, body, [JobRequest(TokenizeInput(ids=body.tokens))])
