"""The notations in which model families write tool calls, and which of them a chat template teaches."""

import re
from dataclasses import dataclass
from typing import Literal

from millstream.worker.engines.grammar.tool_guides import CallSyntax

FormatName = Literal["qwen3_coder", "glm", "minimax", "hermes", "llama3", "mistral", "pythonic", "json"]


@dataclass(frozen=True, slots=True)
class CallTags:
    """The tags of a notation whose parameters each have one of their own."""

    name: re.Pattern[str]  # what leads a call, with the name as its group
    name_so_far: re.Pattern[str]  # what may still become that
    parameter: re.Pattern[str]  # what leads a value, with the parameter's name as its group
    value_ends: str
    closes: str  # the end of a call
    begins: str = ""  # a mark that leads a call even without the notation's marker
    tokens: tuple[str, ...] = ()  # tags that may be special tokens of the model
    wrote_name: str = ""  # how to write each: for models that have to be shown
    wrote_parameter: str = ""
    wrote_end: str = ""


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
    tags: CallTags | None = None  # where values stand in tags; a forced call is written in JSON all the same
    taught: str = ""  # what in a chat template tells this notation, if not its marker


_BETWEEN_MARKS = CallSyntax(prefix="<tool_call>\n", suffix="\n</tool_call>", separator="\n")
FORMATS: dict[str, CallFormat] = {
    "qwen3_coder": CallFormat(
        "qwen3_coder",
        _BETWEEN_MARKS,
        marker="<tool_call>",
        suffix="</tool_call>",
        taught="<function=",
        tags=CallTags(
            name=re.compile(r"\s*<function=([^<>\n]{1,256})>"),
            name_so_far=re.compile(r"\s*(?:<(?:f(?:u(?:n(?:c(?:t(?:i(?:o(?:n(?:=[^<>\n]{0,256})?)?)?)?)?)?)?)?)?)?"),
            parameter=re.compile(r"<parameter=([^<>\n]{1,256})>"),
            value_ends="</parameter>",
            closes="</function>",
            begins="<function=",
            wrote_name="\n<function={name}>\n",
            wrote_parameter="<parameter={key}>\n{value}\n</parameter>\n",
            wrote_end="</function>\n</tool_call>",
        ),
    ),
    "glm": CallFormat(
        "glm",
        _BETWEEN_MARKS,
        marker="<tool_call>",
        suffix="</tool_call>",
        taught="<arg_key>",
        tags=CallTags(
            name=re.compile(r"\s*([\w.-]{1,256})\s*(?=<)"),
            name_so_far=re.compile(r"\s*[\w.-]{0,256}\s*"),
            parameter=re.compile(r"<arg_key>([^<>]{1,256})</arg_key>\s*<arg_value>"),
            value_ends="</arg_value>",
            closes="</tool_call>",
            tokens=("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
            wrote_name="{name}\n",
            wrote_parameter="<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n",
            wrote_end="</tool_call>",
        ),
    ),
    "minimax": CallFormat(
        "minimax",
        CallSyntax(prefix="<minimax:tool_call>\n", suffix="\n</minimax:tool_call>", separator="\n"),
        marker="<minimax:tool_call>",
        suffix="</minimax:tool_call>",
        tags=CallTags(
            name=re.compile(r"\s*<invoke name=\"([^\"<>\n]{1,256})\">"),
            name_so_far=re.compile(r"\s*(?:<(?:i(?:n(?:v(?:o(?:k(?:e[^<>\n]{0,272})?)?)?)?)?)?)?"),
            parameter=re.compile(r"<parameter name=\"([^\"<>\n]{1,256})\">"),
            value_ends="</parameter>",
            closes="</invoke>",
            begins="<invoke name=",
            wrote_name='\n<invoke name="{name}">\n',
            wrote_parameter='<parameter name="{key}">{value}</parameter>\n',
            wrote_end="</invoke>\n</minimax:tool_call>",
        ),
    ),
    "hermes": CallFormat(
        "hermes",
        _BETWEEN_MARKS,
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
        if (mark := format.taught or format.marker) and mark in chat_template:
            return format
    if '"parameters": dictionary' in chat_template:  # Llama 3.1 and later without built-in tools
        return FORMATS["llama3"]
    return FORMATS["pythonic" if "[func_name1(" in chat_template else "json"]


def reasons(chat_template: str) -> bool:
    """Tells whether the template's model thinks aloud in <think> blocks."""
    return "</think>" in chat_template
