"""The notations in which model families write tool calls, and which of them a chat template teaches."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from millstream.worker.engines.grammar.tool_guides import CallSyntax

FormatName = Literal[
    "harmony", "deepseek", "deepseek_r1", "deepseek_v32", "deepseek_v4", "kimi", "qwen3_coder", "glm", "minimax",
    "hermes", "llama3", "mistral", "pythonic", "json",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class CallTags:
    """The tags of a notation whose parameters each have one of their own. What leads a value may tell, in a group
    called `text`, whether it is a text (`true`) or JSON (`false`); else the tool's schema tells."""

    name: re.Pattern[str]  # what leads a call, with the name as its group
    name_so_far: re.Pattern[str]  # what may still become that
    parameter: re.Pattern[str]  # what leads a value, with the parameter's name as its group
    value_ends: str
    closes: str  # the end of a call
    begins: str = ""  # a mark that leads a call even without the notation's marker
    lines: bool = True  # values may stand on lines of their own
    tokens: tuple[str, ...] = ()  # tags that may be special tokens of the model
    wrote_name: str = ""  # how to write each: for models that have to be shown
    wrote_parameter: str = ""
    wrote_end: str = ""


@dataclass(frozen=True, slots=True)
class CallHead:
    """The head of a call whose name stands before its arguments, which are JSON."""

    begins: str  # leads each call of a group
    whole: re.Pattern[str]  # from there up to the arguments, with the name as its group
    named: re.Pattern[str]  # what a cut head must hold for its name to be whole, with the name as its group
    ends: tuple[str, ...]  # what may stand between the arguments and the next call, or the text
    tokens: tuple[str, ...] = ()  # further marks that may be special tokens of the model


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
    head: CallHead | None = None  # where the name stands before the arguments
    channels: tuple[str, ...] = ()  # the marks of an answer of which every part names a channel: thought, text or call
    taught: tuple[str, ...] = ()  # what in a chat template tells this notation; its marker where nothing stands here

    @property
    def tokens(self) -> tuple[str, ...]:
        """Returns the marks that may be special tokens of the model, and are then needed in the text."""
        of_tags = self.tags.tokens if self.tags is not None else ()
        of_head = (self.head.begins, *self.head.ends, *self.head.tokens) if self.head is not None else ()
        marks = (self.marker, self.suffix, *self.bracketed, *self.channels, *of_tags, *of_head)
        return tuple(mark for mark in marks if mark)


def _growing(literal: str, then: str) -> str:
    """Returns the expression of every beginning of a literal, and of the whole of it with what may follow."""
    for character in reversed(literal):
        then = f"(?:{re.escape(character)}{then})?"
    return then


def _dsml(name: FormatName, group: str) -> CallFormat:
    """Returns DeepSeek's markup in which each value says whether it is a text. Its versions differ in the group's
    name."""
    marker, suffix = f"<｜DSML｜{group}>", f"</｜DSML｜{group}>"
    return CallFormat(
        name,
        CallSyntax(prefix=f"{marker}\n", suffix=f"\n{suffix}", separator="\n"),
        marker=marker,
        suffix=suffix,
        taught=("｜DSML｜", f"{group}>"),
        tags=CallTags(
            name=re.compile(r"\s*<｜DSML｜invoke name=\"([^\"<>\n]{1,256})\">"),
            name_so_far=re.compile(r"\s*" + _growing("<｜DSML｜invoke", r"[^<>\n]{0,272}")),
            parameter=re.compile(
                r"<｜DSML｜parameter name=\"([^\"<>\n]{1,256})\"(?:\s+string=\"(?P<text>true|false)\")?>"
            ),
            value_ends="</｜DSML｜parameter>",
            closes="</｜DSML｜invoke>",
            begins="<｜DSML｜invoke name=",
            lines=False,
            tokens=("｜DSML｜",),
            wrote_name='\n<｜DSML｜invoke name="{name}">\n',
            wrote_parameter='<｜DSML｜parameter name="{key}" string="{text}">{value}</｜DSML｜parameter>\n',
            wrote_end=f"</｜DSML｜invoke>\n{suffix}",
        ),
    )


_DEEPSEEK = CallHead(
    begins="<｜tool▁call▁begin｜>",
    whole=re.compile(
        r"<｜tool▁call▁begin｜>\s*(?:function\s*<｜tool▁sep｜>\s*)?([\w.-]{1,256})\s*"
        r"(?:<｜tool▁sep｜>\s*)?(?:```(?:json)?\s*)?(?=\{)"
    ),
    named=re.compile(r"<｜tool▁call▁begin｜>([\w.-]{1,256})<｜tool▁sep｜>"),
    ends=("```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
    tokens=("<｜tool▁sep｜>",),
)
_DEEPSEEK_SYNTAX = CallSyntax(
    style="headed",
    opening="<｜tool▁calls▁begin｜>",
    prefix="<｜tool▁call▁begin｜>",
    middle="<｜tool▁sep｜>",
    suffix="<｜tool▁call▁end｜>",
    closing="<｜tool▁calls▁end｜>",
)
_BETWEEN_MARKS = CallSyntax(prefix="<tool_call>\n", suffix="\n</tool_call>", separator="\n")
FORMATS: dict[str, CallFormat] = {
    "harmony": CallFormat(
        "harmony",
        CallSyntax(
            style="headed",
            prefix="<|channel|>commentary to=functions.",
            middle=" <|constrain|>json<|message|>",
            separator="<|end|><|start|>assistant",
        ),
        channels=("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"),
        taught=("<|channel|>analysis<|message|>",),
    ),
    "deepseek_r1": CallFormat(
        "deepseek_r1",
        replace(
            _DEEPSEEK_SYNTAX,
            prefix="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            middle="\n```json\n",
            suffix="\n```<｜tool▁call▁end｜>",
            separator="\n",
        ),
        marker="<｜tool▁calls▁begin｜>",
        taught=("<｜tool▁calls▁begin｜>", "```json"),
        head=replace(_DEEPSEEK, named=re.compile(r"<｜tool▁call▁begin｜>function<｜tool▁sep｜>([\w.-]{1,256})\n")),
    ),
    "deepseek": CallFormat("deepseek", _DEEPSEEK_SYNTAX, marker="<｜tool▁calls▁begin｜>", head=_DEEPSEEK),
    "deepseek_v32": _dsml("deepseek_v32", "function_calls"),
    "deepseek_v4": _dsml("deepseek_v4", "tool_calls"),
    "kimi": CallFormat(
        "kimi",
        CallSyntax(
            style="headed",
            opening="<|tool_calls_section_begin|>",
            prefix="<|tool_call_begin|>functions.",
            middle=":0<|tool_call_argument_begin|>",
            suffix="<|tool_call_end|>",
            closing="<|tool_calls_section_end|>",
        ),
        marker="<|tool_calls_section_begin|>",
        head=CallHead(
            begins="<|tool_call_begin|>",
            whole=re.compile(
                r"<\|tool_call_begin\|>\s*(?:functions\.)?([\w.-]{1,256})(?::\d+)?\s*"
                r"<\|tool_call_argument_begin\|>\s*(?=\{)"
            ),
            named=re.compile(r"<\|tool_call_begin\|>functions\.([\w.-]{1,256}):"),
            ends=("<|tool_call_end|>", "<|tool_calls_section_end|>"),
            tokens=("<|tool_call_argument_begin|>",),
        ),
    ),
    "qwen3_coder": CallFormat(
        "qwen3_coder",
        _BETWEEN_MARKS,
        marker="<tool_call>",
        suffix="</tool_call>",
        taught=("<tool_call>", "<function="),
        tags=CallTags(
            name=re.compile(r"\s*<function=([^<>\n]{1,256})>"),
            name_so_far=re.compile(r"\s*" + _growing("<function", r"(?:=[^<>\n]{0,256})?")),
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
        taught=("<tool_call>", "<arg_key>"),
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
            name_so_far=re.compile(r"\s*" + _growing("<invoke", r"[^<>\n]{0,272}")),
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
        marks = format.taught or ((format.marker,) if format.marker else ())
        if marks and all(mark in chat_template for mark in marks):
            return format
    if '"parameters": dictionary' in chat_template:  # Llama 3.1 and later without built-in tools
        return FORMATS["llama3"]
    return FORMATS["pythonic" if "[func_name1(" in chat_template else "json"]


def reasons(chat_template: str) -> bool:
    """Tells whether the template's model thinks aloud in <think> blocks."""
    return "</think>" in chat_template
