"""Turns the Responses API's items into chat messages."""

from typing import Any

from millstream.gateway.apis.responses.input.foreign import foreign_answer, foreign_call
from millstream.gateway.apis.responses.input.sealing import unsealed
from millstream.gateway.apis.responses.input.tools import joined_name
from millstream.gateway.apis.responses.shape import ForeignItem, ResponseItem
from millstream.gateway.apis.shared.read.custom_tools import custom_arguments
from millstream.gateway.apis.shared.read.messages import (
    INPUT_IMAGE,
    SEEN_BELOW,
    ChatMessage,
    can_show,
    missing,
    seen_parts,
    source_of,
    text,
    tool_text,
    unsupported,
)
from millstream.gateway.apis.shared.shapes.messages import Part
from millstream.gateway.requests.vision import Vision

Item = ResponseItem | ForeignItem
OUTPUTS = ("function_call_output", "custom_tool_call_output")
SUMMARY = "A summary of the conversation so far:\n\n"


def item_messages(items: list[Item], path: str, vision: Vision | None = None) -> list[ChatMessage]:
    """Returns the items as chat messages. A thought of the model goes with what it said next; calls made in one turn
    become one message, as templates expect. With `vision` images are shown, those of tools' answers in a message after
    these. Raises `BadRequest` naming the item at fault."""
    reading = _Reading(vision)
    for index, item in enumerate(items):
        if isinstance(item, ForeignItem):
            reading.take_foreign(item)
        else:
            reading.take(item, f"{path}[{index}]")
    reading.show()
    return reading.messages


def shown_images(items: list[Item]) -> list[str]:
    """Returns the URLs of all images that users and tools show."""
    parts = [
        part
        for item in items
        if isinstance(item, ResponseItem)
        for shown in (item.content, item.output)
        if isinstance(shown, list)
        for part in shown
    ]
    return [source.url for part in parts if part.type == INPUT_IMAGE and (source := source_of(part)).url]


class _Reading:
    """The messages so far, a thought that waits for what was said after it, and images of tools' answers that wait for
    the last of these."""

    def __init__(self, vision: Vision | None) -> None:
        self.messages: list[ChatMessage] = []
        self._vision = vision
        self._thought = ""
        self._shown: list[dict[str, Any]] = []

    def take(self, item: ResponseItem, path: str) -> None:
        if item.type not in OUTPUTS:
            self.show()
        match item.type:
            case "message":
                self._say(item, path)
            case "function_call":
                self._call(item, item.arguments or "{}", path)
            case "custom_tool_call":
                self._call(item, custom_arguments(item.input or ""), path)
            case "function_call_output" | "custom_tool_call_output":
                self._answer(item, path)
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
        message: ChatMessage = {"role": item.role, "content": self._content(item, f"{path}.content")}
        thinking = self._thought and item.role == "assistant"
        self.messages.append(message | {"reasoning_content": self._thought} if thinking else message)

    def _content(self, item: ResponseItem, path: str) -> str | list[dict[str, Any]]:
        if self._vision is not None and item.role == "user" and _images(item.content):
            return seen_parts(item.content if isinstance(item.content, list) else [], path, self._vision, INPUT_IMAGE)
        passed_on = item.role == "user" and bool(self.messages) and self.messages[-1]["role"] == "tool"
        return (tool_text if passed_on else text)(item.content, path)

    def _answer(self, item: ResponseItem, path: str) -> None:
        if self._vision is not None and isinstance(item.output, list):
            images = [part for part in item.output if can_show(part, INPUT_IMAGE, self._vision)]
            self._shown += seen_parts(images, f"{path}.output", self._vision, INPUT_IMAGE)
            hint = Part(type="input_text", text=SEEN_BELOW)
            hinted = [hint if part in images else part for part in item.output]
            item = item.model_copy(update={"output": hinted})
        self.messages.append(_output(item, path))

    def show(self) -> None:
        """Shows the images of the tools' answers before."""
        if self._shown:
            self.messages.append({"role": "user", "content": self._shown})
            self._shown = []

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


def _images(content: str | list[Part] | None) -> list[Part]:
    return [part for part in content if part.type == INPUT_IMAGE] if isinstance(content, list) else []


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
