"""Writes chat completions: events from chunks, bodies from accumulated answers.

This is the fast path of streaming: per request everything of an event but the delta is encoded once, per token only
the text is. It keeps the gateway's cost per token to a few microseconds; the general way (`_whole`) builds a dict.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from millstream.common.chunk import Chunk, ToolDelta, Usage
from millstream.common.errors import MillstreamError
from millstream.gateway.apis.shared.write.custom_input import CustomInput, custom_input
from millstream.gateway.apis.shared.write.logprobs import chat_logprobs
from millstream.gateway.apis.shared.write.open_weights import RunningUsage, about_prompt
from millstream.gateway.connection.sse import SSE
from millstream.gateway.errors.table import error_json
from millstream.gateway.requests.accumulator import Accumulator, CalledTool
from millstream.gateway.requests.response_meta import ResponseMeta
from millstream.gateway.requests.usage import total, usage_object

DONE = b"data: [DONE]\n\n"
encode = msgspec.json.Encoder().encode


def sse(payload: bytes, place: bytes) -> bytes:
    """Returns the bytes of one event; the blank line ends it. An event without an event id has no `id` line: an empty
    one resets the client's."""
    return b"data: %b\n\n" % payload if not place else b"id: %b\ndata: %b\n\n" % (place, payload)


@dataclass(frozen=True, slots=True)
class ChatForm:
    """The form in which an answer is written. `legacy`: calls as function calls; `customs`: the tools whose input is
    text; then what vLLM's clients may have asked to be told."""

    legacy: bool = False
    customs: frozenset[str] = frozenset()
    token_ids: bool = False
    prompt_logprobs: bool = False
    running_usage: bool = False  # of a stream, with each chunk

    @property
    def plain(self) -> bool:
        """Tells whether a chunk of text alone is told by its text alone."""
        return not (self.token_ids or self.running_usage)


PLAIN = ChatForm()


class ChatStream:
    """A chat completion as a stream of `chat.completion.chunk`. A custom tool's input is told piece by piece, so a
    resumed stream with such tools is folded from its beginning."""

    framing = SSE

    def __init__(self, head: ResponseMeta, *, include_usage: bool, form: ChatForm = PLAIN) -> None:
        self.needs_history = bool(form.customs) or form.running_usage
        self._plain = form.plain
        self._usage = RunningUsage()
        self._head = head
        self._include_usage = include_usage
        self._form = form
        self._inputs: dict[tuple[int, int], CustomInput] = {}  # (choice, index of the call): a custom call's input
        self._prepare()

    def _prepare(self) -> None:
        head: dict[str, Any] = {
            "id": self._head.id,
            "object": "chat.completion.chunk",
            "created": self._head.created,
            "model": self._head.model,
            "service_tier": self._head.tier,
            "system_fingerprint": self._head.fingerprint,
        }
        self._open = encode(head)[:-1]
        usage = b',"usage":null' if self._include_usage else b""
        opening = b"id: %b\ndata: " + self._open.replace(b"%", b"%%")
        choice = b',"choices":[{"index":%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null}]'
        self._text_event = opening + choice + usage + b"}\n\n"
        self._close = usage + b"}"

    def event(self, choice: int, chunk: Chunk, place: bytes) -> bytes:
        if (
            self._plain
            and chunk.text
            and not (chunk.logprobs or chunk.reasoning or chunk.tools or chunk.start or chunk.finish)
        ):
            return self._text_event % (place, choice, encode(chunk.text))
        if chunk.start is not None:
            self._head.learn(chunk.start)
            self._prepare()
        usage = self._usage.add(chunk) if self._form.running_usage else None
        if not (_visible(chunk) or (self._form.token_ids and chunk.ids)):
            return b""
        return self._whole(choice, chunk, usage, place)

    def _whole(self, choice: int, chunk: Chunk, usage: dict[str, Any] | None, place: bytes) -> bytes:
        """Returns a chunk's events; only the last one has the chunk's place, its finish reason and its usage."""
        *earlier, last = self._deltas(choice, chunk)
        entries = [self._entry(choice, delta, None) for delta in earlier]
        entries.append(self._entry(choice, last, _finish(chunk.finish, self._form.legacy)))
        entries[0] |= self._of_tokens(chunk)
        head, tail = self._open, self._close if usage is None else b',"usage":%b}' % encode(usage)
        if self._form.token_ids and chunk.start is not None:
            head += b',"prompt_token_ids":' + encode(chunk.start.prompt_ids)
        told = [sse(b'%b,"choices":[%b]%b' % (head, encode(entry), self._close), b"") for entry in entries[:-1]]
        return b"".join(told) + sse(b'%b,"choices":[%b]%b' % (head, encode(entries[-1]), tail), place)

    def _entry(self, choice: int, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
        entry: dict[str, Any] = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish}
        return entry | {"token_ids": []} if self._form.token_ids else entry

    def _of_tokens(self, chunk: Chunk) -> dict[str, Any]:
        """Returns what is told of a chunk's tokens; it is told once, in the first of its events."""
        of_tokens: dict[str, Any] = {"logprobs": chat_logprobs(chunk.logprobs)} if chunk.logprobs else {}
        return of_tokens | {"token_ids": chunk.ids} if self._form.token_ids else of_tokens

    def _deltas(self, choice: int, chunk: Chunk) -> list[dict[str, Any]]:
        """Returns what is new, each kind in a delta of its own and in this order: thoughts, text, calls. A client that
        finds text and calls in one delta may take the text for what follows the calls."""
        told: list[dict[str, Any]] = [{"reasoning_content": chunk.reasoning}] if chunk.reasoning else []
        if chunk.text:
            told.append({"content": chunk.text})
        if calls := self._calls(choice, chunk):
            told.append(calls)
        opening = {"role": "assistant", "content": "", "refusal": None} if chunk.start is not None else {}
        first, *more = told or [{}]
        return [opening | first, *more]

    def _calls(self, choice: int, chunk: Chunk) -> dict[str, Any]:
        if chunk.tools and self._form.legacy:
            return {"function_call": _function_delta(chunk.tools)}
        calls = [self._tool_delta(choice, tool) for tool in per_call(chunk.tools)]
        if chunk.finish is not None:
            calls += self._last_inputs(choice)
        return {"tool_calls": calls} if calls else {}

    def _tool_delta(self, choice: int, tool: ToolDelta) -> dict[str, Any]:
        if tool.id and tool.name in self._form.customs:
            self._inputs[choice, tool.index] = CustomInput()
        custom = self._inputs.get((choice, tool.index))
        if custom is None:
            return _tool_delta(tool)
        said = custom.grow(tool.arguments)
        if not tool.id:
            return {"index": tool.index, "custom": {"input": said}}
        return {"index": tool.index, "id": tool.id, "type": "custom", "custom": {"name": tool.name, "input": said}}

    def _last_inputs(self, choice: int) -> list[dict[str, Any]]:
        """Returns what is left of the custom tools' inputs at the end of a choice."""
        left = [(index, custom.finish()) for (owner, index), custom in self._inputs.items() if owner == choice]
        return [{"index": index, "custom": {"input": said}} for index, said in left if said]

    def closing(self, usages: list[Usage] | None, place: bytes) -> bytes:
        if not self._include_usage or not usages:
            return DONE
        usage = encode(usage_object(total(usages, per_prompt=len(usages))))
        return sse(b'%b,"choices":[],"usage":%b}' % (self._open, usage), place) + DONE

    def failure(self, error: MillstreamError, place: bytes) -> bytes:
        return sse(error_json(error), place)


def _visible(chunk: Chunk) -> bool:
    return bool(chunk.start or chunk.text or chunk.reasoning or chunk.tools or chunk.logprobs or chunk.finish)


def per_call(tools: list[ToolDelta]) -> list[ToolDelta]:
    """Returns one delta for each call: a client may look only at the first entry of an index."""
    joined: dict[int, ToolDelta] = {}
    for tool in tools:
        first = joined.get(tool.index, ToolDelta(tool.index))
        name, arguments = first.name + tool.name, first.arguments + tool.arguments
        joined[tool.index] = ToolDelta(tool.index, first.id or tool.id, name, arguments)
    return list(joined.values())


def _tool_delta(tool: ToolDelta) -> dict[str, Any]:
    """Returns the delta of a tool call. The first one of a call names it; the later ones only carry arguments."""
    if not tool.id:
        return {"index": tool.index, "function": {"arguments": tool.arguments}}
    function = {"name": tool.name, "arguments": tool.arguments}
    return {"index": tool.index, "id": tool.id, "type": "function", "function": function}


def _function_delta(tools: list[ToolDelta]) -> dict[str, str]:
    """Returns the delta in the older form, which knows one call."""
    first = [tool for tool in tools if tool.index == 0]
    name = "".join(tool.name for tool in first)
    arguments = "".join(tool.arguments for tool in first)
    return {"name": name, "arguments": arguments} if name else {"arguments": arguments}


def _finish(reason: str | None, legacy: bool) -> str | None:
    return "function_call" if legacy and reason == "tool_calls" else reason


def chat_body(
    head: ResponseMeta, accumulators: list[Accumulator], *, logprobs: bool, form: ChatForm = PLAIN
) -> dict[str, Any]:
    """Returns the whole answer of a chat completion that was not streamed."""
    for accumulator in accumulators:
        head.learn(accumulator.start)
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [
            {
                "index": index,
                "message": _message(accumulator, form),
                "logprobs": chat_logprobs(accumulator.logprobs) if logprobs else None,
                "finish_reason": _finish(accumulator.finish, form.legacy),
                **({"token_ids": accumulator.ids} if form.token_ids else {}),
            }
            for index, accumulator in enumerate(accumulators)
        ],
        "usage": usage_object(total([accumulator.usage for accumulator in accumulators], per_prompt=len(accumulators))),
        "service_tier": head.tier,
        "system_fingerprint": head.fingerprint,
        **about_prompt(accumulators[0].start, ids=form.token_ids, logprobs=form.prompt_logprobs),
    }


def _message(accumulator: Accumulator, form: ChatForm) -> dict[str, Any]:
    calls = accumulator.calls
    content = accumulator.text if accumulator.texts or not calls else None
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    if accumulator.thoughts:
        message["reasoning_content"] = accumulator.reasoning
    if calls and form.legacy:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [_call(call, form) for call in calls]
    return message


def _call(call: CalledTool, form: ChatForm) -> dict[str, Any]:
    if call.name in form.customs:
        custom = {"name": call.name, "input": custom_input(call.arguments)}
        return {"id": call.id, "type": "custom", "custom": custom}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
