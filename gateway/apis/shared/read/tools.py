"""Turns tools and the choice among them, in the present and the older form, into a worker's `ToolUse`."""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

from millstream.common.job import ToolUse
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.shared.read.messages import missing, unsupported
from millstream.gateway.apis.shared.shapes.tools import AllowedTools, Function, NamedFunction, Tool, ToolChoice
from millstream.gateway.errors.table import FieldError


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools that the template shows, and what the output may hold. `legacy`: asked and answered as functions."""

    shown: list[dict[str, Any]]
    use: ToolUse | None = None
    legacy: bool = False


NO_TOOLS = Tools([])


def tools(body: ChatRequest) -> Tools:
    """Returns the tools of a body. Raises `BadRequest` naming the tool or the choice at fault."""
    if body.functions and body.tools:
        raise FieldError("Only one of 'functions' and 'tools' may be given.", param="functions", wire_code=None)
    _only_with(body.functions, "function_call", body.function_call, "functions")
    _only_with(body.tools, "tool_choice", body.tool_choice, "tools")
    if body.functions:
        return _legacy(body.functions, body.function_call)
    if not body.tools:
        return NO_TOOLS
    shown = [_shown(tool, index) for index, tool in enumerate(body.tools)]
    parallel = body.parallel_tool_calls is not False
    match body.tool_choice:
        case None | "auto":
            return Tools(shown, ToolUse("auto", parallel=parallel))
        case "none":
            return NO_TOOLS
        case "required":
            return Tools(shown, ToolUse("required", parallel=parallel))
        case ToolChoice() as choice:
            return _chosen(shown, choice, parallel)
        case other:
            raise _bad_choice("tool_choice", str(other))


def _only_with(offered: Sized | None, name: str, choice: object, of: str) -> None:
    """Refuses a choice among no tools, unless it chooses none."""
    if not offered and choice not in (None, "none", "auto"):
        raise FieldError(f"'{name}' is only allowed when '{of}' are specified.", param=name, wire_code=None)


def _shown(tool: Tool, index: int) -> dict[str, Any]:
    path = f"tools[{index}]"
    if tool.type != "function":
        raise unsupported(f"{path}.type", f"'{tool.type}' tools are not supported, only 'function' tools are")
    if tool.function is None:
        raise missing(f"{path}.function")
    return function_tool(tool.function)


def function_tool(function: Function) -> dict[str, Any]:
    """Returns a function as chat templates read it: always with parameters."""
    shown: dict[str, Any] = {"name": function.name}
    if function.description is not None:
        shown["description"] = function.description
    shown["parameters"] = function.parameters or {"type": "object", "properties": {}}
    if function.strict is not None:
        shown["strict"] = function.strict
    return {"type": "function", "function": shown}


def _chosen(shown: list[dict[str, Any]], choice: ToolChoice, parallel: bool) -> Tools:
    match choice:
        case ToolChoice(type="function", function=NamedFunction(name=name)):
            return Tools(shown, named(shown, name, "tool_choice.function.name"))
        case ToolChoice(type="function"):
            raise missing("tool_choice.function")
        case ToolChoice(type="allowed_tools", allowed_tools=AllowedTools() as allowed):
            return Tools(_allowed(shown, allowed), ToolUse(allowed.mode, parallel=parallel))
        case ToolChoice(type="allowed_tools"):
            raise missing("tool_choice.allowed_tools")
        case _:
            raise _bad_choice("tool_choice.type", choice.type)


def named(shown: list[dict[str, Any]], name: str, path: str) -> ToolUse:
    """Returns the choice of one function by name; it must be among the tools."""
    if name not in [tool["function"]["name"] for tool in shown]:
        message = f"Invalid value for '{path}': no function named '{name}' was specified in the tools."
        raise FieldError(message, param=path, wire_code="invalid_value")
    return ToolUse("named", name=name, parallel=False)


def _allowed(shown: list[dict[str, Any]], allowed: AllowedTools) -> list[dict[str, Any]]:
    for index, tool in enumerate(allowed.tools):
        named(shown, tool.function.name, f"tool_choice.allowed_tools.tools[{index}].function.name")
    names = {tool.function.name for tool in allowed.tools}
    return [tool for tool in shown if tool["function"]["name"] in names]


def _legacy(functions: list[Function], call: str | NamedFunction | None) -> Tools:
    shown = [function_tool(function) for function in functions]
    match call:
        case None | "auto":
            return Tools(shown, ToolUse("auto", parallel=False), legacy=True)
        case "none":
            return Tools([], legacy=True)
        case NamedFunction(name=name):
            return Tools(shown, named(shown, name, "function_call.name"), legacy=True)
        case other:
            raise _bad_choice("function_call", str(other))


def _bad_choice(path: str, value: str) -> FieldError:
    supported = "'none', 'auto', 'required', or an object naming a function"
    message = f"Invalid value for '{path}': '{value[:80]}'. Supported values are: {supported}."
    return FieldError(message, param=path, wire_code="invalid_value")
