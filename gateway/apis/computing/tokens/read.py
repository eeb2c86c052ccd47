"""Turns `POST /tokenize` and `POST /detokenize` into prepared requests: the worker that knows the model counts its
tokens."""

from millstream.common.errors import BadRequest
from millstream.common.job import JobRequest, TokenizeInput
from millstream.gateway.apis.computing.tokens.shape import DetokenizeRequest, TokenizeRequest
from millstream.gateway.apis.shared.read.messages import template_messages
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared


def prepare_tokenize(body: TokenizeRequest, place: RequestContext) -> PreparedRequest:
    """Returns the one job. Raises `BadRequest` unless there is exactly one of a prompt and messages."""
    if (body.prompt is None) == (body.messages is None):
        raise BadRequest("Exactly one of 'prompt' and 'messages' must be given.", param="prompt")
    special = body.add_special_tokens is not False
    messages = None if body.messages is None else template_messages(body.messages)
    work = TokenizeInput(text=body.prompt, messages=messages, add_special_tokens=special)
    return prepared(place, body, [JobRequest(work)])


def prepare_detokenize(body: DetokenizeRequest, place: RequestContext) -> PreparedRequest:
    """Returns the one job."""
    return prepared(place, body, [JobRequest(TokenizeInput(ids=body.tokens))])
