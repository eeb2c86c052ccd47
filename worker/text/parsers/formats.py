"""The notations in which model families write tool calls, and which of them a chat template teaches."""

from dataclasses import dataclass
from typing import Literal

from millstream.worker.engines.grammar.tool_guides import CallSyntax

FormatName = Literal["hermes", "llama3", "mistral", "pythonic", "json"]


@dataclass(frozen=True, slots=True)
class CallFormat:
    """One notation of tool calls. `marker` may come anywhere; with `bare` a call may also be the very beginning of the
    answer."""

    name: FormatName
    syntax: CallSyntax  # for a guide that forces a call
    marker: str = ""
    suffix: str = ""
    bare: bool = False
    between: str = ""  # what may stand around the calls of one group, beside white space
    bracketed: tuple[str, ...] = ()  # a newer spelling's marks between a call's name and its arguments


FORMATS: dict[str, CallFormat] = {
    "hermes": CallFormat(
        "hermes",
        CallSyntax(prefix="<tool_call>\n", suffix="\n</tool_call>", separator="\n"),
        marker="<tool_call>",
        suffix="</tool_call>",
    ),
    "llama3": CallFormat(
        "llama3",
        CallSyntax(separator="; ", arguments_key="parameters"),
        marker="<|python_tag|>",
        bare=True,
        between=";",
    ),
    "mistral": CallFormat(
        "mistral",
        CallSyntax(opening="[TOOL_CALLS][", separator=", ", closing="]"),
        marker="[TOOL_CALLS]",
        between="[,]",
        bracketed=("[CALL_ID]", "[ARGS]"),
    ),
    "pythonic": CallFormat(
        "pythonic", CallSyntax(opening="[", separator=", ", closing="]", style="pythonic"), bare=True
    ),
    "json": CallFormat("json", CallSyntax(opening="[", separator=", ", closing="]"), bare=True, between="[,;]"),
}


def parser_for(chat_template: str, name: str | None = None) -> CallFormat:
    """Returns the notation called `name`, else the one the template teaches; JSON as such where it teaches none."""
    if name is not None:
        return FORMATS[name]
    for format in FORMATS.values():
        if format.marker and format.marker in chat_template:
            return format
    if '"parameters": dictionary' in chat_template:  # Llama 3.1 and later without built-in tools
        return FORMATS["llama3"]
    return FORMATS["pythonic" if "[func_name1(" in chat_template else "json"]


def reasons(chat_template: str) -> bool:
    """Tells whether the template's model thinks aloud in <think> blocks."""
    return "</think>" in chat_template
