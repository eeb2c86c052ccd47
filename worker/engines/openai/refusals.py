"""Turns what an upstream says went wrong into errors of ours."""

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from millstream.common.errors import (
    BadRequest,
    ContextLengthExceeded,
    EngineError,
    MillstreamError,
)
from millstream.worker.engines.base import UpstreamLost

LONGEST_QUOTE = 500  # characters of an upstream's own words that a client is told
BUSY = frozenset((429, 502, 503, 504, 529))  # it may well answer a little later
AWAY = frozenset((401, 404))  # our key is refused, or the model is gone: nothing will do until that changes
TOO_LARGE = "too large to process"  # llama.cpp, of an input for a vector; with status 500
CONTEXT = ("context_length_exceeded", "exceed_context_size_error")


@dataclass(frozen=True, slots=True)
class Complaint:
    """An upstream's error object, whichever of the usual forms it had."""

    message: str
    param: str | None = None
    code: str = ""


def complaint(body: bytes) -> Complaint:
    """Returns what an error's body says; text that is no error object stands for itself."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Complaint(_short(body.decode("utf-8", "replace")))
    return complaint_of(told)


def complaint_of(told: Any) -> Complaint:
    """Returns what an error object says: OpenAI's, Ollama's (a text), FastAPI's (`detail`)."""
    if not isinstance(told, dict):
        return Complaint(_short(str(told)))
    fields = cast(dict[str, Any], told)
    inner = fields.get("error", fields.get("detail"))
    if isinstance(inner, dict):
        return complaint_of(inner)
    message = inner or fields.get("message") or fields
    param, code = fields.get("param"), fields.get("code") or fields.get("type")
    return Complaint(_short(str(message)), param if isinstance(param, str) else None, str(code or ""))


def refuse(told: Mapping[str, bool], server: str) -> None:
    """Raises `BadRequest` for the first parameter that is asked for, and not there."""
    for param, asked in told.items():
        if asked:
            raise BadRequest(f"This model's upstream ({server}) has no `{param}`: leave it out.", param=param)


def refusal(status: int, body: bytes) -> MillstreamError:
    """Returns the error of an answer that did not begin. `UpstreamLost` is for what is not the request's fault."""
    told = complaint(body)
    if told.code == "insufficient_quota":
        return EngineError(f"The upstream's budget is used up: {told.message}")
    if status in BUSY or status in AWAY:
        return UpstreamLost(f"The upstream answered {status}: {told.message}", attempts=0)
    if told.code in CONTEXT or (status == 400 and "context length" in told.message) or TOO_LARGE in told.message:
        return ContextLengthExceeded(told.message, param=told.param)
    if 400 <= status < 500 and status != 403:
        return BadRequest(told.message, param=told.param)
    return EngineError(f"The upstream answered {status}: {told.message}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds an upstream asks to be left alone, given as a number or as a date."""
    given = headers.get("retry-after-ms")
    if given is not None and given.replace(".", "", 1).isdigit():
        return float(given) / 1000
    given = headers.get("retry-after", "")
    if given.replace(".", "", 1).isdigit():
        return float(given)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "…"
