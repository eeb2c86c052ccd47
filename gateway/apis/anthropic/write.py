"""Writes messages: from the same chunks Anthropic's events, or the whole message."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from millstream.common.chunk import Chunk, ToolDelta, Usage
from millstream.common.errors import MillstreamError
from millstream.gateway.apis.anthropic.errors import anthropic_error
from millstream.gateway.apis.shared.write.tool_calls import arguments_object
from millstream.gateway.connection.sse import SSE
from millstream.gateway.requests.accumulator import Accumulator, CalledTool
from millstream.gateway.requests.response_meta import ResponseMeta

encode = msgspec.json.Encoder().encode
MessageEvent = dict[str, Any]
AT_START = ("service_tier", "cache_creation", "inference_geo")  # of the usage: told once, with the message's start
DIRECT = {"type": "direct"}  # the model itself calls, no program of its own
UNSIGNED = "dW5zaWduZWQ="  # many clients send back only those thoughts that have a signature; nothing is checked by it


@dataclass(slots=True)
class OpenBlock:
    """The content block under way. `tool` is the call's index."""

    kind: Literal["text", "thinking", "tool_use"]
    tool: int = -1


class MessageStream:
    """A message as a stream of typed events."""

    framing = SSE
    needs_history = True  # the blocks' indexes count from the beginning

    def __init__(self, head: ResponseMeta) -> None:
        self._head = head
        self._open: OpenBlock | None = None
        self._index = -1

    def event(self, choice: int, chunk: Chunk, place: bytes) -> bytes:
        events: list[MessageEvent] = []
        if chunk.start is not None:
            usage = _usage(Usage(prompt=chunk.start.prompt_tokens))
            events.append({"type": "message_start", "message": _message(self._head, [], None, "", usage)})
        if chunk.reasoning:
            events += self._grow(OpenBlock("thinking"), {"type": "thinking_delta", "thinking": chunk.reasoning})
        if chunk.text:
            events += self._grow(OpenBlock("text"), {"type": "text_delta", "text": chunk.text})
        for delta in chunk.tools:
            events += self._grow(OpenBlock("tool_use", delta.index), _tool_delta(delta), delta)
        if chunk.finish is not None:
            events += self._end(chunk)
        return told(events, place)

    def _grow(self, block: OpenBlock, delta: MessageEvent, tool: ToolDelta | None = None) -> list[MessageEvent]:
        events: list[MessageEvent] = []
        if self._open != block:
            events += self._close()
            self._open, self._index = block, self._index + 1
            content = _opened(block, tool)
            events.append({"type": "content_block_start", "index": self._index, "content_block": content})
        if delta.get("partial_json", "x"):
            events.append({"type": "content_block_delta", "index": self._index, "delta": delta})
        return events

    def _close(self) -> list[MessageEvent]:
        block, self._open = self._open, None
        if block is None:
            return []
        at = {"index": self._index}
        signature = {"type": "signature_delta", "signature": UNSIGNED}
        signed: MessageEvent = {"type": "content_block_delta", **at, "delta": signature}
        return [*([signed] if block.kind == "thinking" else []), {"type": "content_block_stop", **at}]

    def _end(self, chunk: Chunk) -> list[MessageEvent]:
        reason, sequence = _stop(chunk.finish, chunk.stopped_by)
        delta = {"stop_reason": reason, "stop_sequence": sequence, "stop_details": None, "container": None}
        usage = {name: value for name, value in _usage(chunk.usage or Usage()).items() if name not in AT_START}
        ending: list[MessageEvent] = [
            {"type": "message_delta", "delta": delta, "usage": usage},
            {"type": "message_stop"},
        ]
        return self._close() + ending

    def closing(self, usages: list[Usage] | None, place: bytes) -> bytes:
        return b""

    def failure(self, error: MillstreamError, place: bytes) -> bytes:
        return told([anthropic_error(error)], place)


def told(events: list[MessageEvent], place: bytes) -> bytes:
    """Only the last event of a chunk carries its place: after it the next chunk begins."""
    out = [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), encode(event)) for event in events]
    if out and place:
        out[-1] = b"id: %b\n%b" % (place, out[-1])
    return b"".join(out)


def _opened(block: OpenBlock, tool: ToolDelta | None) -> MessageEvent:
    match block.kind:
        case "text":
            return {"type": "text", "text": ""}
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "tool_use":
            assert tool is not None
            return {"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}, "caller": DIRECT}


def _tool_delta(delta: ToolDelta) -> MessageEvent:
    return {"type": "input_json_delta", "partial_json": delta.arguments}


def message_body(head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
    """Returns the whole message."""
    [accumulator] = accumulators
    content: list[dict[str, Any]] = []
    if accumulator.thoughts:
        content.append({"type": "thinking", "thinking": accumulator.reasoning, "signature": UNSIGNED})
    if accumulator.texts:
        content.append({"type": "text", "text": accumulator.text})
    content += [_used(call) for call in accumulator.calls]
    return _message(head, content, accumulator.finish, accumulator.stopped_by, _usage(accumulator.usage))


def _used(call: CalledTool) -> dict[str, Any]:
    given = arguments_object(call.arguments)
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given, "caller": DIRECT}


def _message(
    head: ResponseMeta, content: list[dict[str, Any]], finish: str | None, stopped_by: str, usage: dict[str, Any]
) -> dict[str, Any]:
    reason, sequence = _stop(finish, stopped_by)
    return {
        "id": head.id,
        "type": "message",
        "role": "assistant",
        "content": content,
        "model": head.model,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "stop_details": None,
        "container": None,
        "usage": usage | {"service_tier": "priority" if head.tier == "priority" else "standard"},
    }


def _stop(finish: str | None, stopped_by: str) -> tuple[str | None, str | None]:
    match finish:
        case None:
            return None, None
        case "length":
            return "max_tokens", None
        case "tool_calls" | "function_call":
            return "tool_use", None
        case "content_filter":
            return "refusal", None
        case _:
            return ("stop_sequence", stopped_by) if stopped_by else ("end_turn", None)


def _usage(usage: Usage) -> dict[str, Any]:
    """Returns the usage, with cached tokens counted apart as Anthropic does."""
    return {
        "input_tokens": usage.prompt - usage.cached,
        "output_tokens": usage.completion,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "server_tool_use": None,
        "inference_geo": None,
        "service_tier": "standard",
    }


def count_body(head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, int]:
    """Returns how many tokens the messages are."""
    [accumulator] = accumulators
    return {"input_tokens": len(accumulator.result.ids) if accumulator.result else 0}
