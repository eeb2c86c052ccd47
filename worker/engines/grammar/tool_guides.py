"""Grammars that force tool calls: with `required` and named choices even a small model cannot answer otherwise.

The parsers know how a model writes its calls and say it as a `CallSyntax`; this makes the guide for it.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal, cast

from millstream.common.errors import BadGrammar
from millstream.common.job import Guide, ToolUse
from millstream.worker.engines.grammar.closing import closed
from millstream.worker.engines.grammar.readable import readable

TOOLS = "tools"  # what a guide made here names as the parameter at fault
# One blank after colon and comma, as json.dumps writes: what the models were trained on.
_SPACING: dict[str, Any] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_MOST_CALLS = 16  # of one answer: without a bound a small model may call for ever


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """The syntax of calls: `opening prefix {json} suffix separator prefix {json} suffix … closing`. The JSON is
    `{name_key: …, arguments_key: {…}}`; the `pythonic` style writes `name(key=value, …)` instead, the `headed` one
    `name middle {arguments}`."""

    opening: str = ""
    prefix: str = ""
    suffix: str = ""
    separator: str = ""
    closing: str = ""
    name_key: str = "name"
    arguments_key: str = "arguments"
    middle: str = ""
    style: Literal["json", "pythonic", "headed"] = "json"


def functions_of(tools: list[dict[str, Any]], use: ToolUse) -> list[tuple[int, dict[str, Any]]]:
    """The functions a call may go to, each with its place among the tools. Raises `BadGrammar` if there is none."""
    found = [(i, tool["function"]) for i, tool in enumerate(tools) if tool.get("type", "function") == "function"]
    if use.choice == "named":
        found = [(i, function) for i, function in found if function["name"] == use.name]
    if not found:
        raise BadGrammar(f"tool_choice names {use.name!r}, which is not among the tools.", param="tool_choice")
    return found


def tool_guide(syntax: CallSyntax, tools: list[dict[str, Any]], use: ToolUse, longest: int = 1 << 20) -> Guide:
    """The guide under which the answer is one call or (`use.parallel`) several, of the named function or of any.
    `tools` are OpenAI's. Raises `BadGrammar` if the named function is not among them, or the guide would be longer than
    `longest` characters."""
    functions = functions_of(tools, use)
    rules = _Rules(longest)
    more = f"({_text(syntax.separator)} call){{0,{_MOST_CALLS - 1}}}" if use.parallel else ""
    rules.add("start", f"{_text(syntax.opening)} call {more} {_text(syntax.closing)}")
    names = " | ".join(f"f{i}" for i in range(len(functions)))
    rules.add("call", f"{_text(syntax.prefix)} ({names}) {_text(syntax.suffix)}")
    for i, (_, function) in enumerate(functions):
        if syntax.style == "json":
            rules.add(f"f{i}", _json_call(syntax, function))
        elif syntax.style == "headed":
            rules.add(f"f{i}", _headed_call(syntax, function))
        else:
            _pythonic_call(rules, f"f{i}", function)
    return Guide("grammar", "\n".join(rules.written), TOOLS)


class _Rules:
    """The grammar as it is written. Raises `BadGrammar` when it becomes too long."""

    def __init__(self, longest: int) -> None:
        self.written: list[str] = []
        self._longest = self._left = longest

    def add(self, name: str, body: str) -> None:
        self._left -= len(body)
        if self._left < 0:
            raise BadGrammar(
                f"The tools make a grammar of more than {self._longest} bytes, the most this server compiles (its "
                "setting `guide_bytes`). Send fewer or smaller tools.",
                param=TOOLS,
            )
        self.written.append(f"{name}: {body}")


def _text(literal: str) -> str:
    return json.dumps(literal, ensure_ascii=False) if literal else '""'


def _parameters(function: dict[str, Any], place: str) -> dict[str, Any]:
    """Returns the function's parameters for a schema that holds them at `place`. Closed unless they say otherwise: a
    forced call names only parameters that there are, and in their objects only properties that there are."""
    given = readable(function.get("parameters") or {}, strict=_is_strict(function))
    return _rebased(closed({"type": "object", "properties": {}} | given), place)


def _is_strict(function: dict[str, Any]) -> bool:
    return function.get("strict") is True


def _rebased(schema: Any, place: str) -> Any:
    """References to the schema's own root, which now is at `place`."""
    match schema:
        case {"$ref": str(reference), **others} if reference.startswith("#"):
            return {"$ref": place + reference[1:]} | _rebased(others, place)
        case dict():
            return {key: _rebased(value, place) for key, value in cast(dict[str, Any], schema).items()}
        case list():
            return [_rebased(value, place) for value in cast(list[Any], schema)]
        case _:
            return schema


def _json_call(syntax: CallSyntax, function: dict[str, Any]) -> str:
    arguments = _parameters(function, f"#/properties/{syntax.arguments_key}")
    schema: dict[str, Any] = {
        "x-guidance": _SPACING | {"lenient": not _is_strict(function)},
        "type": "object",
        "properties": {syntax.name_key: {"const": function["name"]}, syntax.arguments_key: arguments},
        "required": [syntax.name_key, syntax.arguments_key],
        "additionalProperties": False,
    }
    return f"%json {json.dumps(schema)}"


def _headed_call(syntax: CallSyntax, function: dict[str, Any]) -> str:
    lenient = not _is_strict(function)
    arguments = _parameters(function, "#") | {"x-guidance": _SPACING | {"lenient": lenient}}
    return f"{_text(function['name'] + syntax.middle)} %json {json.dumps(arguments)}"


def _pythonic_call(rules: _Rules, name: str, function: dict[str, Any]) -> None:
    """`name(a=1, b="x")`: the required arguments in their order, then any of the others in theirs."""
    parameters = _parameters(function, "#/$defs/parameters")
    properties: dict[str, Any] = parameters.get("properties", {})
    required = [key for key in properties if key in parameters.get("required", [])]
    optional = [key for key in properties if key not in required]
    for number, key in enumerate((*required, *optional)):
        value = _value(properties[key], parameters, not _is_strict(function))
        rules.add(f"{name}p{number}", f"{_text(key + '=')} %json {json.dumps(value)}")
    parts = ' ", " '.join(f"{name}p{number}" for number in range(len(required)))
    written = [f"{name}p{number}" for number in range(len(required), len(properties))]
    if written:
        parts += f" {_any_of(rules, name, written)}" if required else f"({_some_of(rules, name, written)})?"
    rules.add(name, f"{_text(function['name'] + '(')} {parts} {_text(')')}")


def _value(schema: Any, parameters: dict[str, Any], lenient: bool) -> Any:
    """A property's schema with what its references mean."""
    if not isinstance(schema, dict):
        return schema
    needed = {"$defs": {"parameters": parameters}} if '"$ref"' in json.dumps(schema) else {}
    return cast(dict[str, Any], schema) | needed | {"x-guidance": {"lenient": lenient}}


def _any_of(rules: _Rules, name: str, written: list[str]) -> str:
    """Every choice of `written` in order, each with a comma before it; the rule's name."""
    for number, each in enumerate(written):
        later = f" {name}r{number + 1}" if number + 1 < len(written) else ""
        rules.add(f"{name}r{number}", f'(", " {each})?{later}')
    return f"{name}r0"


def _some_of(rules: _Rules, name: str, written: list[str]) -> str:
    """Every non-empty choice of `written` in order, with commas between; the rule's name."""
    _any_of(rules, name, written)
    for number, each in enumerate(written):
        last = number + 1 == len(written)
        rules.add(f"{name}s{number}", each if last else f"{each} {name}r{number + 1} | {name}s{number + 1}")
    return f"{name}s0"
