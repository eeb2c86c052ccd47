"""The lines of a batch's input file: read without holding the file, taken apart, and named."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec

from millstream.common.errors import BadRequest
from millstream.common.request_id import RequestId, separator
from millstream.gateway.apis.shared.read.body import extent
from millstream.gateway.requests.prepared import PreparedRequest


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line that is not blank: its number in the file (from 1) and where the next one begins (bytes)."""

    number: int
    end: int
    text: bytes


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One request of a batch."""

    custom_id: str
    body: dict[str, Any]


class LineFault(BadRequest):
    """A line is wrong; `kind` is OpenAI's code for how, `line` its number where the line itself cannot be had."""

    def __init__(self, kind: str, message: str, param: str | None = None, line: int | None = None) -> None:
        super().__init__(message, param=param)
        self.kind = kind
        self.line = line


async def raw_lines(blocks: AsyncIterator[bytes], offset: int, longest: int) -> AsyncIterator[RawLine]:
    """Yields the lines in the blocks, the first of which begins at `offset`. Raises `LineFault` for a line of more than
    `longest` bytes."""
    rest, number, at = b"", 0, offset

    def fitting(text: bytes) -> bytes:
        if len(text) > longest:  # the same wherever the blocks end: what was validated can be run
            message = f"Line {number + 1} is longer than {longest} bytes."
            raise LineFault("line_too_long", message, line=number + 1)
        return text

    async for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        for text in lines:
            if fitting(text).strip():
                yield RawLine(number + 1, at + len(text) + 1, text)
            number, at = number + 1, at + len(text) + 1
        fitting(rest)
    if rest.strip():
        yield RawLine(number + 1, at + len(rest), rest)


def parse_line(text: bytes, endpoint: str) -> BatchLine:
    """Raises `LineFault`."""
    if excess := extent(text).exceeds:
        raise LineFault("line_too_complex", f"This line is too complex: at most {excess} are accepted in one request.")
    try:
        line: object = msgspec.json.decode(text.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LineFault("invalid_json_line", f"This line is not parseable as valid JSON: {error}.") from None
    if not isinstance(line, dict):
        raise LineFault("invalid_json_line", "Expected a JSON object on each line.")
    fields = cast(dict[str, object], line)
    custom_id, body = fields.get("custom_id"), fields.get("body")
    if not (isinstance(custom_id, str) and 0 < len(custom_id) <= 512):
        raise LineFault("invalid_custom_id", "Expected a 'custom_id' of 1 to 512 characters.", "custom_id")
    if fields.get("method") != "POST":
        raise LineFault("invalid_method", "Expected the 'method' \"POST\".", "method")
    if fields.get("url") != endpoint:
        message = f"The 'url' is {fields.get('url')!r}, but the batch's endpoint is '{endpoint}'."
        raise LineFault("mismatched_endpoint", message, "url")
    if not isinstance(body, dict):
        raise LineFault("invalid_body", "Expected the request's 'body' as a JSON object.", "body")
    return BatchLine(custom_id, cast(dict[str, Any], body))


def named(order: PreparedRequest, batch: str, created: int, line: int, attempt: int) -> PreparedRequest:
    """Returns the prepared request under an id that follows from its place, so that whoever submits the line again
    meets the jobs that are there already instead of making others."""
    count, model = order.id.count, order.id.model
    family = order.id.text[:-33]
    digest = hashlib.sha256(f"{batch}:{line}:{attempt}".encode()).hexdigest()[:16]
    text = f"{family}{separator(family)}{created:08x}{count:03x}{model}{digest}"
    identity = RequestId(text, created, count, model)
    requests = [request for _, request in order.submission.jobs]
    jobs = list(zip(identity.jobs(), requests, strict=True))
    return replace(order, id=identity, submission=replace(order.submission, jobs=jobs))
