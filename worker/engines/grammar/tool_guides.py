"""Grammars that force tool calls: with `required` and named choices even a small model cannot answer otherwise.

The parsers know how a model writes its calls and say it as a `CallSyntax`; this makes the guide for it.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal, cast

from millstream.common.errors import BadGrammar
from millstream.common.job import Guide, ToolUse

_OPEN = {"additionalProperties", "patternProperties", "allOf", "anyOf", "oneOf", "$ref"}  # what else may be there
_MOST_CALLS = 16  # of one answer: without a bound a small model may call for ever


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """The syntax of calls: `opening prefix {json} suffix separator prefix {json} suffix … closing`. The JSON is
    `{name_key: …, arguments_key: {…}}`; the `pythonic` style writes `name(key=value, …)` instead."""

    opening: str = ""
    prefix: str = ""
    suffix: str = ""
    separator: str = ""
    closing: str = ""
    name_key: str = "name"
    arguments_key: str = "arguments"
    style: Literal["json", "pythonic"] = "json"


def tool_guide(syntax: CallSyntax, tools: list[dict[str, Any]], use: ToolUse) -> Guide:
    """Returns the guide under which the answer is one call or (`use.parallel`) several, of the named function or of
    any. `tools` are OpenAI's. Raises `BadGrammar` if the named function is not among them."""
    functions = [tool["function"] for tool in tools if tool.get("type", "function") == "function"]
    if use.choice == "named":
        functions = [function for function in functions if function["name"] == use.name]
    if not functions:
        raise BadGrammar(f"tool_choice names {use.name!r}, which is not among the tools.", param="tool_choice")
    write = _json_call if syntax.style == "json" else _pythonic_call
    rules = [f"f{i}: {write(syntax, function)}" for i, function in enumerate(functions)]
    more = f"({_text(syntax.separator)} call){{0,{_MOST_CALLS - 1}}}" if use.parallel else ""
    start = f"start: {_text(syntax.opening)} call {more} {_text(syntax.closing)}"
    names = " | ".join(f"f{i}" for i in range(len(functions)))
    call = f"call: {_text(syntax.prefix)} ({names}) {_text(syntax.suffix)}"
    return Guide("grammar", "\n".join((start, call, *rules)))


def _text(literal: str) -> str:
    return json.dumps(literal, ensure_ascii=False) if literal else '""'


def _parameters(function: dict[str, Any], place: str) -> dict[str, Any]:
    """Returns the function's parameters for a schema that holds them at `place`. Closed unless they say otherwise: a
    forced call names only parameters that there are."""
    given: dict[str, Any] = function.get("parameters") or {}
    closed = {} if given.keys() & _OPEN else {"additionalProperties": False}
    return {"type": "object", "properties": {}} | closed | _rebased(given, place)


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
        # One blank after colon and comma, as json.dumps writes: what the models were trained on.
        "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "},
        "type": "object",
        "properties": {syntax.name_key: {"const": function["name"]}, syntax.arguments_key: arguments},
        "required": [syntax.name_key, syntax.arguments_key],
        "additionalProperties": False,
    }
    return f"%json {json.dumps(schema)}"


def _pythonic_call(syntax: CallSyntax, function: dict[str, Any]) -> str:
    """Returns the form of `name(a=1, b="x")`: the required arguments in their order, then any of the others in
    theirs."""
    parameters = _parameters(function, "#/$defs/parameters")
    properties: dict[str, Any] = parameters.get("properties", {})
    required = [name for name in properties if name in parameters.get("required", [])]
    optional = [name for name in properties if name not in required]
    defs = {"$defs": {"parameters": parameters}}
    written = {name: f"{_text(name + '=')} %json {json.dumps(properties[name] | defs)}" for name in properties}
    parts = [f'", " {written[name]}' if i else written[name] for i, name in enumerate(required)]
    if required:
        parts += [f'(", " {written[name]})?' for name in optional]
    elif optional:
        parts.append("(" + " | ".join(_chain([written[name] for name in optional])) + ")?")
    return " ".join((_text(function["name"] + "("), *parts, '")"'))


def _chain(written: list[str]) -> list[str]:
    """Returns every non-empty choice of `written` in order, by its first element."""
    return [" ".join((first, *(f'(", " {later})?' for later in written[i + 1 :]))) for i, first in enumerate(written)]
