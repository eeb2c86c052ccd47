"""Turns the Responses API's items into chat messages."""

from typing import Any

from millstream.gateway.apis.responses.input.foreign import foreign_answer, foreign_call
from millstream.gateway.apis.responses.input.sealing import unsealed
from millstream.gateway.apis.responses.input.tools import joined_name
from millstream.gateway.apis.responses.shape import ForeignItem, ResponseItem
from millstream.gateway.apis.shared.read.custom_tools import custom_arguments
from millstream.gateway.apis.shared.read.messages import ChatMessage, missing, text, tool_text, unsupported

Item = ResponseItem | ForeignItem
SUMMARY = "A summary of the conversation so far:\n\n"


def item_messages(items: list[Item], path: str) -> list[ChatMessage]:
    """Returns the items as chat messages. A thought of the model goes with what it said next; calls made in one turn
    become one message, as templates expect. Raises `BadRequest` naming the item at fault."""
    reading = _Reading()
    for index, item in enumerate(items):
        if isinstance(item, ForeignItem):
            reading.take_foreign(item)
        else:
            reading.take(item, f"{path}[{index}]")
    return reading.messages


class _Reading:
    """The messages so far, and a thought that waits for what was said after it."""

    def __init__(self) -> None:
        self.messages: list[ChatMessage] = []
        self._thought = ""

    def take(self, item: ResponseItem, path: str) -> None:
        match item.type:
            case "message":
                self._say(item, path)
            case "function_call":
                self._call(item, item.arguments or "{}", path)
            case "custom_tool_call":
                self._call(item, custom_arguments(item.input or ""), path)
            case "function_call_output" | "custom_tool_call_output":
                self.messages.append(_output(item, path))
            case "reasoning":
                self._thought = thought_of(item, path)
                return
            case "compaction":
                summary = unsealed(item.encrypted_content or "")
                self.messages += [{"role": "user", "content": SUMMARY + summary}] if summary else []
            case other:
                raise unsupported(f"{path}.type", f"items of the type '{other}' are not known here")
        self._thought = ""

    def take_foreign(self, item: ForeignItem) -> None:
        if (call := foreign_call(item)) is not None:
            self._add_call(call)
        if (answer := foreign_answer(item)) is not None:
            self.messages.append(answer)

    def _say(self, item: ResponseItem, path: str) -> None:
        if item.role is None:
            raise missing(f"{path}.role")
        if item.content is None:
            raise missing(f"{path}.content")
        message: ChatMessage = {"role": item.role, "content": text(item.content, f"{path}.content")}
        thinking = self._thought and item.role == "assistant"
        self.messages.append(message | {"reasoning_content": self._thought} if thinking else message)

    def _call(self, item: ResponseItem, arguments: str, path: str) -> None:
        for name in ("call_id", "name"):
            if getattr(item, name) is None:
                raise missing(f"{path}.{name}")
        function = {"name": joined_name(item.namespace or "", item.name or ""), "arguments": arguments}
        self._add_call({"id": item.call_id, "type": "function", "function": function})

    def _add_call(self, call: dict[str, Any]) -> None:
        if self.messages and self.messages[-1]["role"] == "assistant":
            self.messages[-1].setdefault("tool_calls", []).append(call)
            return
        message: ChatMessage = {"role": "assistant", "content": None, "tool_calls": [call]}
        self.messages.append(message | {"reasoning_content": self._thought} if self._thought else message)


def _output(item: ResponseItem, path: str) -> ChatMessage:
    if item.call_id is None:
        raise missing(f"{path}.call_id")
    if item.output is None:
        raise missing(f"{path}.output")
    return {"role": "tool", "tool_call_id": item.call_id, "content": tool_text(item.output, f"{path}.output")}


def thought_of(item: ResponseItem, path: str) -> str:
    """Returns the thought, from our own `encrypted_content` or the item's plain content. One that another server has
    encrypted cannot be read: it is left out."""
    own = None if item.encrypted_content is None else unsealed(item.encrypted_content)
    if own is not None:
        return own
    if isinstance(item.content, list):
        return "".join(part.text or "" for part in item.content)
    return text(item.content, f"{path}.content")
