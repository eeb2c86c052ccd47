"""Custom tools, whose input is text, as functions of one argument: open models call functions."""

import json
from typing import Any

from millstream.gateway.apis.shared.shapes.tools import CustomFunction, FreeForm

INPUT = "input"  # the one argument


def custom_as_function(tool: CustomFunction) -> dict[str, Any]:
    """Returns the function that stands for the tool. A grammar is told in words: the model follows it as it can."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    text = {"type": "string", "description": _form(tool.format)}
    parameters = {"type": "object", "properties": {INPUT: text}, "required": [INPUT], "additionalProperties": False}
    return {"type": "function", "function": function | {"parameters": parameters}}


def _form(given: FreeForm | None) -> str:
    grammar = (given.grammar or given) if given is not None and given.type == "grammar" else None
    if grammar is None or grammar.definition is None:
        return "The tool's input, as plain text."
    return (
        f"The tool's input, as plain text that follows this {grammar.syntax or 'lark'} grammar:\n{grammar.definition}"
    )


def custom_arguments(text: str) -> str:
    """Returns an input as the arguments of that function."""
    return json.dumps({INPUT: text}, ensure_ascii=False)
