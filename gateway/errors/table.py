"""One table from an error's `code` to OpenAI's status and type, and OpenAI's JSON for every error there is."""

import math
from dataclasses import dataclass

import msgspec

from millstream.common.errors import (
    BadRequest,
    BodyTooLarge,
    Cancelled,
    Expired,
    Forbidden,
    IdempotencyConflict,
    JobFailed,
    LogExpired,
    MillstreamError,
    ModelNotFound,
    NotFound,
    Overloaded,
    QuotaExceeded,
    TooLargeToWait,
    Unauthorized,
    Unavailable,
)


class FieldError(BadRequest):
    """A field of the body is wrong, with OpenAI's own `code` for how (`invalid_type`, `missing_required_parameter`)."""

    def __init__(self, message: str, *, param: str | None, wire_code: str | None) -> None:
        super().__init__(message, param=param)
        self.wire_code = wire_code


class UnknownRoute(NotFound):
    """No such path."""


class WrongMethod(BadRequest):
    """The path exists, the method does not."""

    code = "method_not_allowed"


class UpgradeRefused(BadRequest):
    """A WebSocket was asked for where there is only HTTP: clients that read this go on over HTTP at once."""

    code = "upgrade_required"


class HeadTooLarge(BadRequest):
    """The request's headers exceed the limit."""

    code = "headers_too_large"


class BodyTooSlow(BadRequest):
    """The request's body stopped coming before it was complete."""

    code = "request_timeout"


class StorageFailed(MillstreamError):
    """The place where files are kept is full, or cannot be written or read."""

    code = "storage_failed"


@dataclass(frozen=True, slots=True)
class WireError:
    """One row of the error table: HTTP status, OpenAI's `type`, and its `code` where that is not our own."""

    status: int
    type: str
    code: str | None


INVALID = "invalid_request_error"
TABLE: dict[str, WireError] = {
    BadRequest.code: WireError(400, INVALID, None),
    "context_length_exceeded": WireError(400, INVALID, "context_length_exceeded"),
    "invalid_grammar": WireError(400, INVALID, "invalid_grammar"),
    TooLargeToWait.code: WireError(400, INVALID, "too_large_to_wait"),
    Unauthorized.code: WireError(401, INVALID, "invalid_api_key"),
    Forbidden.code: WireError(403, "permission_error", "forbidden"),
    ModelNotFound.code: WireError(404, INVALID, "model_not_found"),
    NotFound.code: WireError(404, INVALID, "not_found"),
    "record_lost": WireError(404, INVALID, "record_lost"),
    WrongMethod.code: WireError(405, INVALID, "method_not_allowed"),
    BodyTooSlow.code: WireError(408, "timeout", "request_timeout"),
    IdempotencyConflict.code: WireError(409, INVALID, "idempotency_conflict"),
    LogExpired.code: WireError(410, INVALID, "stream_expired"),
    UpgradeRefused.code: WireError(426, INVALID, "upgrade_required"),
    BodyTooLarge.code: WireError(413, INVALID, "request_too_large"),
    HeadTooLarge.code: WireError(431, INVALID, "headers_too_large"),
    Overloaded.code: WireError(429, "rate_limit_error", "rate_limit_exceeded"),
    QuotaExceeded.code: WireError(429, "insufficient_quota", "insufficient_quota"),
    Cancelled.code: WireError(499, "cancelled", "cancelled"),
    MillstreamError.code: WireError(500, "server_error", "internal_error"),
    JobFailed.code: WireError(500, "server_error", "job_failed"),
    "engine_error": WireError(500, "server_error", "engine_error"),
    "worker_lost": WireError(500, "server_error", "worker_lost"),
    "stream_lost": WireError(500, "server_error", "stream_lost"),
    "answer_interrupted": WireError(500, "server_error", "answer_interrupted"),
    Unavailable.code: WireError(503, "service_unavailable", "service_unavailable"),
    StorageFailed.code: WireError(507, "server_error", "storage_failed"),
    Expired.code: WireError(504, "timeout", "deadline_exceeded"),
}
RETRY_SOON = 2.0  # seconds: a Redis restart or fail-over is usually over by then


def wire(error: MillstreamError) -> WireError:
    """Returns the error's row; one without a row is the server's fault."""
    return TABLE.get(error.code, TABLE[MillstreamError.code])


def error_object(error: MillstreamError) -> dict[str, object]:
    """Returns `{"error": {"message", "type", "param", "code"}}`, as OpenAI writes it."""
    row = wire(error)
    code = error.wire_code if isinstance(error, FieldError) else row.code
    param = None if error.param is None else readable(error.param)
    return {"error": {"message": readable(error.message), "type": row.type, "param": param, "code": code}}


def readable(text: str) -> str:
    """Returns text that can be sent: a message may quote a client's text that is no Unicode."""
    return text.encode("utf-8", "replace").decode()


def error_json(error: MillstreamError) -> bytes:
    """Returns the error object as JSON: a response's body or a mid-stream event's data."""
    return msgspec.json.encode(error_object(error))


def error_headers(error: MillstreamError) -> dict[str, str]:
    """Returns `Retry-After` (whole seconds, rounded up) where coming back makes sense, and what the SDKs read beside
    it."""
    status = wire(error).status
    if status == 401:
        return {"www-authenticate": "Bearer"}
    if status not in (429, 503):
        return {"x-should-retry": "false"} if status in (409, 410, 504) else {}
    wait = error.retry_after if error.retry_after is not None else RETRY_SOON
    later = {"retry-after": str(max(1, math.ceil(wait))), "retry-after-ms": str(max(1, math.ceil(wait * 1000)))}
    left = error.headers if isinstance(error, Overloaded) else {}
    no_retry = {"x-should-retry": "false"} if isinstance(error, QuotaExceeded) else {}
    return {**later, **left, **no_retry}
