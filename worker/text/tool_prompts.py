"""Telling a model of its tools when its chat template cannot: in words, in the notation its answer is parsed in."""

import json
from typing import Any, cast

from millstream.worker.text.parsers.formats import CallFormat
from millstream.worker.text.parsers.tagged_calls import tagged

_INTRODUCTION = (
    "You can call functions. These are their names, what they do and their parameters as JSON schemas:\n"
    "{tools}\n"
    "To call functions, answer with nothing but the calls, written like this:\n"
    "{example}\n"
    "If no function helps, answer in plain words."
)


def tell_tools(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]], notation: CallFormat
) -> list[dict[str, Any]]:
    """Returns the messages with a system message that introduces the tools."""
    functions = "\n".join(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools)
    words = _INTRODUCTION.format(tools=functions, example=_call(notation, "function_name", {"parameter": "value"}))
    if messages and messages[0]["role"] in ("system", "developer"):
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{words}"}, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]


def has_calls(messages: list[dict[str, Any]]) -> bool:
    """Tells whether calls or results are in the history."""
    return any(message.get("tool_calls") or message["role"] == "tool" for message in messages)


def calls_in_words(messages: list[dict[str, Any]], notation: CallFormat) -> list[dict[str, Any]]:
    """Returns the messages with earlier calls and results as text."""
    return [_in_words(message, notation) for message in messages]


def _in_words(message: dict[str, Any], notation: CallFormat) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if calls:
        written = "\n".join(_call(notation, each["function"]["name"], _arguments(each)) for each in calls)
        return {"role": "assistant", "content": "\n".join(part for part in (message.get("content"), written) if part)}
    if message["role"] == "tool":
        return {"role": "user", "content": f"The function answered:\n{message.get('content') or ''}"}
    return message


def _arguments(call: dict[str, Any]) -> Any:
    arguments = call["function"].get("arguments") or "{}"
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _call(notation: CallFormat, name: str, arguments: Any) -> str:
    syntax = notation.syntax
    named = cast(dict[str, Any], arguments if isinstance(arguments, dict) else {})
    if notation.tags is not None:
        return tagged(notation, notation.tags, name, named)
    if syntax.style == "pythonic":
        given = ", ".join(f"{key}={value!r}" for key, value in named.items())
        return f"{syntax.opening}{name}({given}){syntax.closing}"
    if syntax.style == "headed":
        head = f"{syntax.opening}{syntax.prefix}{name}{syntax.middle}"
        return f"{head}{json.dumps(arguments, ensure_ascii=False)}{syntax.suffix}{syntax.closing}"
    body = json.dumps({syntax.name_key: name, syntax.arguments_key: arguments}, ensure_ascii=False)
    return f"{syntax.opening}{syntax.prefix}{body}{syntax.suffix}{syntax.closing}"
