"""Errors in the form that Anthropic's clients expect."""

from typing import Any

from millstream.common.errors import MillstreamError
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
    """Returns `{"type": "error", "error": {"type", "message"}}`."""
    status = wire(error).status
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": readable(error.message)}}
