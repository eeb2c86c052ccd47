"""Writes Ollama's answers: the same chunks as lines of JSON, or as a whole."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from millstream.common.chunk import Chunk, TokenLogprob, Usage
from millstream.common.errors import MillstreamError, Unavailable
from millstream.gateway.apis.ollama.errors import ollama_error
from millstream.gateway.apis.shared.write.logprobs import chat_token
from millstream.gateway.apis.shared.write.tool_calls import arguments_object
from millstream.gateway.connection.framing import Framing
from millstream.gateway.connection.sse import STOPPING
from millstream.gateway.requests.accumulator import Accumulator, CalledTool
from millstream.gateway.requests.response_meta import ResponseMeta

encode = msgspec.json.Encoder().encode
BREAKS = {b"\xc2\x85": b"\\u0085", b"\xe2\x80\xa8": b"\\u2028", b"\xe2\x80\xa9": b"\\u2029"}


def one_line(json: bytes) -> bytes:
    """Returns JSON without the characters at which some clients (all that read with httpx) end a line, though NDJSON
    does not. The control characters are escaped already."""
    if b"\xe2\x80" in json or b"\xc2\x85" in json:
        for character, escaped in BREAKS.items():
            json = json.replace(character, escaped)
    return json


def line(fields: dict[str, Any]) -> bytes:
    """Returns one line of a stream."""
    return one_line(encode(fields)) + b"\n"


# A line is an answer to Ollama's own client, also an empty one, so that nothing can be sent in a silence.
NDJSON = Framing(b"application/x-ndjson", comments=False, stop_notice=line(ollama_error(Unavailable(STOPPING))))


@dataclass(frozen=True, slots=True)
class Said:
    """A part of an answer, or all of it."""

    text: str = ""
    thinking: str = ""
    calls: list[CalledTool] = field(default_factory=list[CalledTool])


Form = Callable[[Said], dict[str, Any]]


def as_message(said: Said) -> dict[str, Any]:
    """Writes the form of `/api/chat`."""
    message: dict[str, Any] = {"role": "assistant", "content": said.text}
    message |= {"thinking": said.thinking} if said.thinking else {}
    return {"message": message | ({"tool_calls": [_call(call) for call in said.calls]} if said.calls else {})}


def as_response(said: Said) -> dict[str, Any]:
    """Writes the form of `/api/generate`."""
    return {"response": said.text} | ({"thinking": said.thinking} if said.thinking else {})


def _call(call: CalledTool) -> dict[str, Any]:
    return {"id": call.id, "function": {"name": call.name, "arguments": arguments_object(call.arguments)}}


@dataclass(slots=True)
class Timing:
    """The times at which the request and its first token came, by this gateway's clock (ns)."""

    began: int = field(default_factory=time.monotonic_ns)
    first: int | None = None

    def durations(self) -> dict[str, int]:
        """Returns the durations up to now. Waiting and computing the prompt cannot be told apart from here. Loading
        takes none of the time: a worker does it before it takes jobs."""
        now = time.monotonic_ns()
        told = {"total_duration": now - self.began, "load_duration": 0}
        if self.first is None:  # nothing was seen to come: the whole answer is read at its end
            return told | {"eval_duration": now - self.began}
        return told | {"prompt_eval_duration": self.first - self.began, "eval_duration": now - self.first}


def opening(head: ResponseMeta, asked: str) -> dict[str, Any]:
    """Returns the fields that every line begins with. `asked`: the model's name as the client wrote it."""
    return {"model": asked, "created_at": timestamp(head.created)}


def timestamp(seconds: float) -> str:
    """Writes a time as Go's clients read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class LineStream:
    """An answer as lines of JSON. A tool call is told when it is complete."""

    framing = NDJSON
    needs_history = True

    def __init__(self, head: ResponseMeta, *, asked: str, form: Form, timing: Timing) -> None:
        self._opening = opening(head, asked)
        self._form = form
        self._timing = timing
        self._calls = Accumulator()
        before, mark, after = line(self._opening | form(Said("\0")) | {"done": False}).rpartition(encode("\0"))
        assert mark
        self._text_line = before.replace(b"%", b"%%") + b"%b" + after.replace(b"%", b"%%")

    def event(self, choice: int, chunk: Chunk, place: bytes) -> bytes:
        if self._timing.first is None and chunk.start is None:
            self._timing.first = time.monotonic_ns()
        if chunk.text and not (chunk.logprobs or chunk.reasoning or chunk.tools or chunk.finish):
            text = encode(chunk.text)
            return self._text_line % (text if chunk.text.isascii() else one_line(text))
        self._calls.add(Chunk(tools=chunk.tools))
        calls = self._complete(chunk)
        out = b""
        if chunk.text or chunk.reasoning or calls or chunk.logprobs:
            out = self._line(self._form(Said(chunk.text, chunk.reasoning, calls)) | _logprobs(chunk.logprobs))
        return out + self._end(chunk) if chunk.finish is not None else out

    def _complete(self, chunk: Chunk) -> list[CalledTool]:
        """Returns the calls that grow no more: all but the last, until the end."""
        tools = self._calls.tools
        grown = sorted(tools)[: None if chunk.finish is not None else -1]
        return [tools.pop(index) for index in grown]

    def _line(self, fields: dict[str, Any]) -> bytes:
        return line(self._opening | fields | {"done": False})

    def _end(self, chunk: Chunk) -> bytes:
        ending = _ended(chunk.finish, chunk.usage or Usage(), self._timing)
        return line(self._opening | self._form(Said()) | ending)

    def closing(self, usages: list[Usage] | None, place: bytes) -> bytes:
        return b""

    def failure(self, error: MillstreamError, place: bytes) -> bytes:
        return line(ollama_error(error))


def whole_answer(
    head: ResponseMeta, accumulators: list[Accumulator], *, asked: str, form: Form, timing: Timing
) -> dict[str, Any]:
    """Returns the whole answer in one object."""
    [accumulator] = accumulators
    said = Said(accumulator.text, accumulator.reasoning, accumulator.calls)
    ending = _ended(accumulator.finish, accumulator.usage, timing)
    return opening(head, asked) | form(said) | _logprobs(accumulator.logprobs) | ending


def _logprobs(tokens: list[TokenLogprob]) -> dict[str, Any]:
    return {"logprobs": [chat_token(token) for token in tokens]} if tokens else {}


def _ended(finish: str | None, usage: Usage, timing: Timing) -> dict[str, Any]:
    counts = {"prompt_eval_count": usage.prompt, "eval_count": usage.completion}
    return {"done": True, "done_reason": "length" if finish == "length" else "stop", **timing.durations(), **counts}


def embed_body(head: ResponseMeta, accumulators: list[Accumulator], *, asked: str, timing: Timing) -> dict[str, Any]:
    """Returns the vectors in the order of the texts."""
    durations = timing.durations()
    return {
        "model": asked,
        "embeddings": _vectors(accumulators),
        "total_duration": durations["total_duration"],
        "load_duration": durations["load_duration"],
        "prompt_eval_count": sum(accumulator.usage.prompt for accumulator in accumulators),
    }


def old_embed_body(head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
    """Returns the one vector."""
    return {"embedding": _vectors(accumulators)[0]}


def _vectors(accumulators: list[Accumulator]) -> list[list[float]]:
    return [vector for each in accumulators if each.result is not None for vector in each.result.vectors]
