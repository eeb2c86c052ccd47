"""Errors in the form that Anthropic's clients expect."""

from typing import Any

from millstream.common.chunk import ContextSizes
from millstream.common.errors import ContextLengthExceeded, MillstreamError
from millstream.gateway.errors.table import readable, wire

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def anthropic_error(error: MillstreamError) -> dict[str, Any]:
    """Returns `{"type": "error", "error": {"type", "message"}}`, in Anthropic's words where agents parse them."""
    status = wire(error).status
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": readable(_words(error))}}


def _words(error: MillstreamError) -> str:
    """Returns the message. Of a request that is too long Claude Code reads the numbers: it asks for a shorter answer,
    or makes the conversation shorter."""
    match error:
        case ContextLengthExceeded(sizes=ContextSizes(room=room, prompt=prompt, completion=0)):
            return f"prompt is too long: {prompt} tokens > {room} maximum"
        case ContextLengthExceeded(sizes=ContextSizes(room=room, prompt=prompt, completion=asked)):
            return (
                f"input length and `max_tokens` exceed context limit: {prompt} + {asked} > {room}, "
                "decrease input length or `max_tokens` and try again"
            )
        case _:
            return error.message
