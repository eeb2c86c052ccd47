"""Turns tools and the choice among them, in the present and the older form, into a worker's `ToolUse`."""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

from millstream.common.job import ToolUse
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.shared.read.custom_tools import custom_as_function
from millstream.gateway.apis.shared.read.hosted import hosted_choice, hosted_family, unknown_kind
from millstream.gateway.apis.shared.read.messages import missing
from millstream.gateway.apis.shared.shapes.tools import (
    AllowedTools,
    CustomFunction,
    Function,
    NamedFunction,
    NamedTool,
    Tool,
    Toolbox,
    ToolChoice,
)
from millstream.gateway.errors.table import FieldError
from millstream.gateway.errors.validation import shaped


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
    shown = _all_shown(body.tools)
    parallel = body.parallel_tool_calls is not False
    match body.tool_choice:
        case None | "auto":
            return Tools(shown, ToolUse("auto", parallel=parallel)) if shown else NO_TOOLS
        case "none":
            return NO_TOOLS
        case "required":
            if not shown:
                raise nothing_to_call()
            return Tools(shown, ToolUse("required", parallel=parallel))
        case ToolChoice() as choice:
            return _chosen(shown, choice, parallel)
        case other:
            raise _bad_choice("tool_choice", str(other))


def _only_with(offered: Sized | None, name: str, choice: object, of: str) -> None:
    """Refuses a choice among no tools, unless it chooses none."""
    if not offered and choice not in (None, "none", "auto"):
        raise FieldError(f"'{name}' is only allowed when '{of}' are specified.", param=name, wire_code=None)


def shown_tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns another API's tools, written as a chat's, as templates read them. Raises `FieldError` for those that a
    chat would refuse."""
    return _all_shown(shaped(Toolbox, {"tools": tools}).tools)


def _all_shown(tools: list[Tool]) -> list[dict[str, Any]]:
    found = (_shown(tool, index) for index, tool in enumerate(tools))
    return [tool for tool in found if tool is not None]


def _shown(tool: Tool, index: int) -> dict[str, Any] | None:
    """Returns the tool as templates read it; None for one that nobody runs here."""
    path = f"tools[{index}]"
    match tool:
        case Tool(type="function", function=Function() as function):
            return function_tool(function)
        case Tool(type="custom", custom=CustomFunction() as custom):
            return custom_as_function(custom)
        case Tool(type="function" | "custom" as kind):
            raise missing(f"{path}.{kind}")
        case Tool(type=kind):
            if hosted_family(kind) is None:
                raise unknown_kind(f"{path}.type", kind, "'function' and 'custom'")
            return None


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
        case ToolChoice(type="custom", custom=NamedFunction(name=name)):
            return Tools(shown, named(shown, name, "tool_choice.custom.name"))
        case ToolChoice(type="function" | "custom" as kind):
            raise missing(f"tool_choice.{kind}")
        case ToolChoice(type="allowed_tools", allowed_tools=AllowedTools() as allowed):
            return Tools(_allowed(shown, allowed), ToolUse(allowed.mode, parallel=parallel))
        case ToolChoice(type="allowed_tools"):
            raise missing("tool_choice.allowed_tools")
        case ToolChoice(type=kind) if hosted_family(kind) is not None:
            raise hosted_choice("tool_choice.type", kind)
        case _:
            raise _bad_choice("tool_choice.type", choice.type)


def named(shown: list[dict[str, Any]], name: str, path: str) -> ToolUse:
    """Returns the choice of one function by name; it must be among the tools."""
    if name not in [tool["function"]["name"] for tool in shown]:
        message = f"Invalid value for '{path}': no function named '{name}' was specified in the tools."
        raise FieldError(message, param=path, wire_code="invalid_value")
    return ToolUse("named", name=name, parallel=False)


def _allowed(shown: list[dict[str, Any]], allowed: AllowedTools) -> list[dict[str, Any]]:
    names = {_allowed_name(shown, tool, index) for index, tool in enumerate(allowed.tools)}
    return [tool for tool in shown if tool["function"]["name"] in names]


def _allowed_name(shown: list[dict[str, Any]], tool: NamedTool, index: int) -> str:
    path = f"tool_choice.allowed_tools.tools[{index}].{tool.type}"
    chosen = tool.function if tool.type == "function" else tool.custom
    if chosen is None:
        raise missing(path)
    named(shown, chosen.name, f"{path}.name")
    return chosen.name


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


def nothing_to_call() -> FieldError:
    """Returns the error for a call that is demanded where no tool is left to call."""
    message = "Invalid value for 'tool_choice': 'required', but none of the tools runs here."
    return FieldError(message, param="tool_choice", wire_code="invalid_value")


def _bad_choice(path: str, value: str) -> FieldError:
    supported = "'none', 'auto', 'required', or an object naming a function"
    message = f"Invalid value for '{path}': '{value[:80]}'. Supported values are: {supported}."
    return FieldError(message, param=path, wire_code="invalid_value")
