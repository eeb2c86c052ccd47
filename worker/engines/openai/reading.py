"""Reads an upstream's stream: bytes to events to chunks. Pure, but for the stream itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import msgspec

from millstream.common.chunk import Chunk, FinishReason, TokenLogprob, ToolDelta, TopLogprob, Usage
from millstream.common.errors import EngineError
from millstream.worker.engines.base import SequenceKey, UpstreamLost
from millstream.worker.engines.openai.refusals import complaint_of
from millstream.worker.engines.openai.replies import (
    REPLY,
    CallPart,
    ChoicePart,
    FunctionPart,
    LikelyToken,
    MessagePart,
    Scores,
    UsageReply,
)

LONGEST_EVENT = 16 * 2**20  # bytes
MOST_LINES = 1000  # of data in one event; servers write one
FINISHES: Mapping[str, FinishReason] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
DONE = b"[DONE]"


class AnyReply(Protocol):
    """An event of any server's stream, which may tell of a failure."""

    @property
    def error(self) -> Any: ...


Reply = TypeVar("Reply", bound=AnyReply)


class EventReader:
    """Splits bytes into the data of server-sent events. Not a library's reader, because those pass over comments, which
    are an upstream's signs of life, and read text where bytes will do."""

    def __init__(self) -> None:
        self._held = bytearray()  # of a line whose end is to come, in pieces however small
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields the data of each event that is complete. Raises `EngineError` for one that has no end."""
        *lines, rest = data.split(b"\n")
        if lines and self._held:
            lines[0] = bytes(self._held) + lines[0]
            self._held.clear()
        self._held += rest
        if len(self._held) > LONGEST_EVENT or len(self._data) > MOST_LINES:
            raise garbage("an event without an end")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif not line and self._data:
                yield self._take()

    def end(self) -> Iterator[bytes]:
        """Yields an event whose end the upstream left out."""
        yield from self.feed(b"\n\n")

    def _take(self) -> bytes:
        data, self._data = b"\n".join(self._data), []
        return data


class AnswerReader:
    """One answer's events as chunks. `finish` and usage come in events of their own and are told together, last."""

    def __init__(self, key: SequenceKey, top: int | None = None) -> None:
        self._key = key
        self._top = top  # alternatives the client asked for, of those that come
        self._finish: FinishReason | None = None
        self._stopped_by = ""
        self._usage = Usage()
        self._counted = 0
        self._calls: list[_GrowingCall] = []
        self.begun = False
        self.done = False

    @property
    def complete(self) -> bool:
        """Tells whether the upstream has said why the answer ends."""
        return self._finish is not None

    def read(self, data: bytes) -> Chunk | None:
        """Returns what an event says, if it says something now. Raises `EngineError` for what is no answer,
        `UpstreamLost` for an upstream that fails in mid-answer."""
        if data == DONE:
            self.done = True
            return None
        reply = decoded(REPLY, data)
        self.begun = True
        if reply.usage is not None:
            self._usage = _usage(reply.usage)
        if reply.choices is None and reply.usage is None:
            raise garbage(data[:200].decode("utf-8", "replace"))
        return self._choice(reply.choices[0]) if reply.choices else None

    def last(self) -> Chunk:
        """Returns the chunk that ends the answer."""
        usage = self._usage if self._usage.completion else Usage(self._usage.prompt, self._counted)
        finish: FinishReason | None = "tool_calls" if self._calls else self._finish
        return Chunk(finish=finish, stopped_by=self._stopped_by, usage=usage)

    def _choice(self, choice: ChoicePart) -> Chunk | None:
        part = choice.delta or choice.message or MessagePart()
        text = (choice.text or "") + (part.content or part.refusal or "")
        reasoning = part.reasoning_content or part.reasoning or ""
        tools = [tool for call in part.tool_calls or () if (tool := self._tool(call)) is not None]
        logprobs = _logprobs(choice.logprobs, self._top) if choice.logprobs is not None else []
        if choice.finish_reason:
            self._end(choice)
        if not (text or reasoning or tools or logprobs):
            return None
        count = max(1, len(logprobs))
        self._counted += count
        return Chunk(text=text, reasoning=reasoning, tools=tools, logprobs=logprobs, count=count)

    def _end(self, choice: ChoicePart) -> None:
        """Notes why the answer ends. Some servers say it twice, the second time with a word that stands for nothing."""
        if self._finish in (None, "stop"):
            self._finish = FINISHES.get(choice.finish_reason or "", "stop")
            self._stopped_by = choice.stop_reason if isinstance(choice.stop_reason, str) else self._stopped_by

    def _tool(self, call: CallPart) -> ToolDelta | None:
        """Returns a call's delta: its id and name only once and first, its index counted where the upstream does not.
        None as long as the call has no name."""
        function = call.function or FunctionPart()
        arguments = function.arguments or ""
        if (known := self._known(call, function.name)) is not None:
            known.arguments.append(arguments)
            return ToolDelta(known.ours, arguments=arguments) if known.name else known.named(function.name or "")
        ours = len(self._calls)
        made = f"call_{blake2b(f'{self._key}/{ours}'.encode(), digest_size=12).hexdigest()}"
        id = made if any(call.id == each.id for each in self._calls) else call.id or made
        begun = _GrowingCall(ours, call.index, call.id or "", id, "", [arguments])
        self._calls.append(begun)
        return begun.named(function.name or "")

    def _known(self, call: CallPart, name: str | None) -> "_GrowingCall | None":
        """Returns the call that a part goes on with; None for the first part of another one, which names its function.
        Servers differ: some give each part another id, or all calls one index, or neither index nor id."""
        same = [each for each in self._calls if call.index is None or each.index in (None, call.index)]
        named = [each for each in same if call.id and each.id == call.id]
        if not same or not (named or name):
            return same[-1] if same else None
        if call.id and not named:
            return None
        last = (named or same)[-1]
        return None if name and last.over_before(call) else last


@dataclass(slots=True)
class _GrowingCall:
    ours: int  # its index in our answer
    index: int | None  # the upstream's, and its id
    id: str
    told: str  # the id that the client knows
    name: str
    arguments: list[str]

    def named(self, name: str) -> ToolDelta | None:
        """Returns its first delta, once it has a name."""
        self.name = name
        return ToolDelta(self.ours, self.told, name, "".join(self.arguments)) if name else None

    def over_before(self, part: CallPart) -> bool:
        """Tells whether a part that names a function belongs to another call: this one has another name, or all its
        arguments."""
        function = part.function or FunctionPart()
        if self.name not in ("", function.name):
            return True
        if not (function.arguments or "").strip():
            return False
        try:
            return isinstance(msgspec.json.decode("".join(self.arguments)), dict)
        except msgspec.DecodeError:
            return False


def garbage(what: str) -> EngineError:
    """Returns the error for an answer that is none."""
    return EngineError(f"The upstream answered something that is no completion: {what!r}")


def cut_off() -> UpstreamLost:
    """Returns the error for an answer that ended without saying why."""
    return UpstreamLost("The upstream's answer ended in its middle.", attempts=1)


def decoded(decoder: "msgspec.json.Decoder[Reply]", data: bytes) -> Reply:
    """Returns an event of a stream. Raises `EngineError` for what is none, `UpstreamLost` for an upstream that fails in
    mid-answer."""
    try:
        reply = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise garbage(data[:200].decode("utf-8", "replace")) from error
    if reply.error is not None:
        told = complaint_of(reply.error)
        raise UpstreamLost(f"The upstream failed in mid-answer: {told.message}", attempts=1)
    return reply


def _usage(told: UsageReply) -> Usage:
    cached = told.prompt_tokens_details.cached_tokens if told.prompt_tokens_details else 0
    reasoning = told.completion_tokens_details.reasoning_tokens if told.completion_tokens_details else 0
    return Usage(told.prompt_tokens or 0, told.completion_tokens or 0, cached or 0, reasoning or 0)


def _logprobs(scores: Scores, most: int | None) -> list[TokenLogprob]:
    if scores.content is not None:
        return [
            TokenLogprob(each.token, each.logprob, -1, _likely(each.top_logprobs or (), most), each.bytes or [])
            for each in scores.content
        ]
    likely = scores.top_logprobs or [None] * len(scores.tokens or ())
    return [
        TokenLogprob(token, logprob, -1, [TopLogprob(text, value or 0.0, -1) for text, value in (top or {}).items()])
        for token, logprob, top in zip(scores.tokens or (), scores.token_logprobs or (), likely, strict=False)
    ]


def _likely(tokens: Sequence[LikelyToken], most: int | None) -> list[TopLogprob]:
    return [TopLogprob(each.token, each.logprob or 0.0, -1, each.bytes or []) for each in tokens[:most]]
