"""The calls among a response's output items: of functions, whose arguments are JSON, and of custom tools, whose input
is text."""

from typing import Any

from millstream.common.chunk import ToolDelta
from millstream.gateway.apis.responses.input.tools import OfferedTool
from millstream.gateway.apis.responses.output.items import ResponseEvent, added, done
from millstream.gateway.apis.shared.write.custom_input import CustomInput


class CallItem:
    """A function the model calls; under its bare name, beside its namespace if it has one."""

    def __init__(self, digits: str, index: int, first: ToolDelta, offered: OfferedTool | None) -> None:
        self.index = index
        self.tool = first.index
        self._id = f"fc_{digits}{index:02x}"
        self._call = first.id
        self._named = named_call(first, offered)
        self._arguments: list[str] = []

    def opening(self) -> list[ResponseEvent]:
        return [added(self)]

    def grow(self, arguments: str) -> list[ResponseEvent]:
        """Adds a piece of the arguments' JSON."""
        self._arguments.append(arguments)
        at = {"item_id": self._id, "output_index": self.index}
        return [{"type": "response.function_call_arguments.delta", **at, "delta": arguments}]

    def closing(self, status: str) -> list[ResponseEvent]:
        at = {"item_id": self._id, "output_index": self.index}
        arguments = "".join(self._arguments)
        return [{"type": "response.function_call_arguments.done", **at, "arguments": arguments}, done(self, status)]

    def object(self, status: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "function_call",
            "status": status,
            "call_id": self._call,
            **self._named,
            "arguments": "".join(self._arguments),
        }


class CustomCallItem:
    """A custom tool the model calls."""

    def __init__(self, digits: str, index: int, first: ToolDelta, offered: OfferedTool) -> None:
        self.index = index
        self.tool = first.index
        self._id = f"ctc_{digits}{index:02x}"
        self._call = first.id
        self._named = named_call(first, offered)
        self._input = CustomInput()
        self._at = {"item_id": self._id, "output_index": index}

    def opening(self) -> list[ResponseEvent]:
        return [added(self)]

    def grow(self, arguments: str) -> list[ResponseEvent]:
        """Adds a piece of the arguments' JSON, of which a piece of the input may come."""
        return self._delta(self._input.grow(arguments))

    def closing(self, status: str) -> list[ResponseEvent]:
        rest = self._delta(self._input.finish())
        ended = {"type": "response.custom_tool_call_input.done", **self._at, "input": self._input.text}
        return [*rest, ended, done(self, status)]

    def _delta(self, said: str) -> list[ResponseEvent]:
        return [{"type": "response.custom_tool_call_input.delta", **self._at, "delta": said}] if said else []

    def object(self, status: str) -> dict[str, Any]:
        named = {"id": self._id, "type": "custom_tool_call", "call_id": self._call, **self._named}
        return named | {"input": self._input.text}


def named_call(first: ToolDelta, offered: OfferedTool | None) -> dict[str, str]:
    """Returns the names by which the client looks a call up."""
    if offered is None:
        return {"name": first.name}
    return {"name": offered.name} | ({"namespace": offered.namespace} if offered.namespace else {})


def call_item(digits: str, index: int, first: ToolDelta, offered: OfferedTool | None) -> CallItem | CustomCallItem:
    """Returns the item of a call that begins; `offered`: the tool that was meant, if it was offered."""
    if offered is not None and offered.tool.type == "custom":
        return CustomCallItem(digits, index, first, offered)
    return CallItem(digits, index, first, offered)
