"""Writes responses: from the same chunks typed events with a sequence number each, or the whole response."""

from typing import Any

import msgspec

from millstream.common.chunk import Chunk, FinishReason, ToolDelta, Usage
from millstream.common.errors import MillstreamError
from millstream.gateway.apis.responses.input.tools import called_names
from millstream.gateway.apis.responses.output.calls import CallItem, CustomCallItem, call_item
from millstream.gateway.apis.responses.output.items import MessageItem, OutputItem, ReasoningItem, ResponseEvent
from millstream.gateway.apis.responses.response_object import ResponseFrame, Status, broken, ended, response_object
from millstream.gateway.connection.sse import SSE
from millstream.gateway.requests.response_meta import ResponseMeta

encode = msgspec.json.Encoder().encode


class ResponseFold:
    """A response growing. `take` tells what each chunk changes; `response` is the object at any moment."""

    def __init__(self, head: ResponseMeta, frame: ResponseFrame) -> None:
        self._head = head
        self._frame = frame
        self._digits = head.id.partition("_")[2]
        self._offered = called_names(frame.fields["tools"])
        self._output: list[dict[str, Any]] = []
        self._open: OutputItem | None = None
        self.response = response_object(head, frame, "queued", self._output)

    def take(self, chunk: Chunk) -> list[ResponseEvent]:
        """Returns the chunk's events, in OpenAI's order. A failed chunk's error is told by `fail`."""
        events: list[ResponseEvent] = []
        if chunk.start is not None:
            events += self._begin()
        if chunk.reasoning:
            events += self._think(chunk.reasoning)
        if chunk.text or (chunk.logprobs and isinstance(self._open, MessageItem)):
            events += self._say(chunk)
        for delta in chunk.tools:
            events += self._call(delta)
        if chunk.finish is not None:
            events += self._end(chunk.finish, chunk.usage or Usage(), chunk.ended)
        return events

    def fail(self, error: MillstreamError) -> list[ResponseEvent]:
        """Ends the response, which is not complete."""
        events = self._close("incomplete")
        self.response = broken(self._now("in_progress"), error)
        return [*events, {"type": "response.failed", "response": self.response}]

    def _now(self, status: Status) -> dict[str, Any]:
        return response_object(self._head, self._frame, status, list(self._output))

    def _begin(self) -> list[ResponseEvent]:
        self.response = self._now("in_progress")
        kinds = ("response.created", "response.in_progress")
        return [{"type": kind, "response": self.response} for kind in kinds]

    def _think(self, text: str) -> list[ResponseEvent]:
        events: list[ResponseEvent] = []
        if not isinstance(self._open, ReasoningItem):
            events += self._turn(ReasoningItem(self._digits, self._next(), self._frame.sealed))
        assert isinstance(self._open, ReasoningItem)
        return [*events, self._open.grow(text)]

    def _say(self, chunk: Chunk) -> list[ResponseEvent]:
        events: list[ResponseEvent] = []
        if not isinstance(self._open, MessageItem):
            events += self._turn(MessageItem(self._digits, self._next(), self._frame.logprobs))
        assert isinstance(self._open, MessageItem)
        return [*events, self._open.grow(chunk.text, chunk.logprobs)]

    def _call(self, delta: ToolDelta) -> list[ResponseEvent]:
        events: list[ResponseEvent] = []
        if not isinstance(self._open, CallItem | CustomCallItem) or self._open.tool != delta.index:
            events += self._turn(call_item(self._digits, self._next(), delta, self._offered.get(delta.name)))
        assert isinstance(self._open, CallItem | CustomCallItem)
        return [*events, *self._open.grow(delta.arguments)] if delta.arguments else events

    def _next(self) -> int:
        return len(self._output) + (self._open is not None)

    def _turn(self, item: OutputItem) -> list[ResponseEvent]:
        """Moves from one item to the next."""
        events = self._close("completed")
        self._open = item
        return events + item.opening()

    def _close(self, status: str) -> list[ResponseEvent]:
        item, self._open = self._open, None
        if item is None:
            return []
        events = item.closing(status)
        self._output.append(item.object(status))
        return events

    def _end(self, finish: FinishReason, usage: Usage, at: int) -> list[ResponseEvent]:
        cut = finish in ("length", "content_filter")
        events: list[ResponseEvent] = []
        if self._open is None and not self._output:
            events += self._turn(MessageItem(self._digits, 0, self._frame.logprobs))  # an answer, if an empty one
        events += self._close("incomplete" if cut else "completed")
        self.response = ended(self._now("in_progress"), finish, usage, at or self._head.created)
        return [*events, {"type": "response.incomplete" if cut else "response.completed", "response": self.response}]


class ResponseStream:
    """A response as a stream. Every event has a number; `after` is the last one the client has had (-1: none)."""

    framing = SSE
    needs_history = True

    def __init__(self, head: ResponseMeta, frame: ResponseFrame, after: int = -1) -> None:
        self._accumulator = ResponseFold(head, frame)
        self._after = after
        self._number = 0

    def event(self, choice: int, chunk: Chunk, place: bytes) -> bytes:
        return self._told(self._accumulator.take(chunk), place)

    def closing(self, usages: list[Usage] | None, place: bytes) -> bytes:
        return b""

    def failure(self, error: MillstreamError, place: bytes) -> bytes:
        return self._told(self._accumulator.fail(error), place)

    def _told(self, events: list[ResponseEvent], place: bytes) -> bytes:
        """Only the last event of a chunk carries its place: after it the next chunk begins."""
        out: list[bytes] = []
        for event in events:
            number, self._number = self._number, self._number + 1
            if number > self._after:
                kind = event["type"].encode()
                out.append(b"event: %b\ndata: %b\n\n" % (kind, encode(event | {"sequence_number": number})))
        if out and place:
            out[-1] = b"id: %b\n%b" % (place, out[-1])
        return b"".join(out)

    @property
    def response(self) -> dict[str, Any]:
        """Returns the response as it is now."""
        return self._accumulator.response
