"""Turns a job's request into what the engine runs: the prompt's token ids, and how many tokens there is room for."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from millstream.common.chunk import ContextSizes
from millstream.common.errors import BadRequest, ContextLengthExceeded
from millstream.common.job import ChatPrompt, JobRequest, TextPrompt, TokensPrompt
from millstream.worker.engines.base import TemplateRefused, Tokenizer
from millstream.worker.text.message_order import (
    Conversation,
    candidates,
    numbered_ids,
    single_calls,
    system_first,
    thoughts_before_calls,
)
from millstream.worker.text.parsers.formats import CallFormat
from millstream.worker.text.tool_prompts import calls_in_words, has_calls, tell_tools

LONGEST_TOKEN = 16  # characters a token stands for at most, on average over a long text


def template_of(tokenizer: Tokenizer) -> str:
    """Returns the model's chat template, empty if it has none."""
    return str(getattr(tokenizer, "chat_template", "") or "")


def prompt_ids(tokenizer: Tokenizer, request: JobRequest, notation: CallFormat) -> list[int]:
    """Returns the prompt as token ids; `notation` is how tool calls are written. Raises `BadRequest` for what the chat
    template refuses or an empty prompt."""
    match request.input:
        case ChatPrompt(messages, tools, go_on, kwargs):
            ids = chat_ids(tokenizer, messages, tools, notation, go_on=go_on, kwargs=kwargs)
        case TextPrompt(text):
            ids = tokenizer.encode(text)
        case TokensPrompt(given):
            ids = given
        case _:
            raise BadRequest("This job does not generate.")
    if not ids:
        raise BadRequest("The prompt is empty: give at least one token.", param="prompt")
    return ids


def chat_ids(
    tokenizer: Tokenizer,
    messages: Conversation,
    tools: list[dict[str, Any]],
    notation: CallFormat,
    *,
    go_on: bool = False,
    kwargs: dict[str, Any] | None = None,
) -> list[int]:
    """Returns the prompt of a chat. Tools, and calls of the history, that the template does not show are told in
    words; messages that it refuses are said in others. Raises `BadRequest` for what it takes in no form."""
    in_words = partial(calls_in_words, notation=notation)
    if notation.name == "kimi":
        messages = numbered_ids(messages)
    elif notation.channels:
        messages = thoughts_before_calls(messages)
    if not tokenizer.shown.systems:
        messages = system_first(messages)
    if not tokenizer.shown.parallel:
        messages = single_calls(messages)
    if has_calls(messages) and not _shows_calls(tokenizer, tools):
        messages = in_words(messages)
    if tools and not tokenizer.shown.tools:
        messages, tools = tell_tools(messages, tools, notation), []
    chat = partial(tokenizer.chat, tools=tools, go_on=go_on, kwargs=kwargs or {})
    try:
        return chat(messages)
    except TemplateRefused as refusal:
        for candidate in candidates(messages, in_words):
            try:
                return chat(candidate)
            except TemplateRefused:
                continue
        raise refusal


def _shows_calls(tokenizer: Tokenizer, tools: list[dict[str, Any]]) -> bool:
    shown = tokenizer.shown
    return shown.calls_with_tools if tools and shown.tools else shown.calls


def check_characters(size: int, context_length: int, param: str) -> None:
    """Refuses at once what minutes of work would find to be too long. Raises `ContextLengthExceeded`."""
    if size > context_length * LONGEST_TOKEN:
        raise ContextLengthExceeded(
            f"This model's maximum context length is {context_length} tokens. However, the {param} has {size} "
            f"characters, which are more tokens than that. Please reduce the length of the {param}.",
            param=param,
            needed=size // LONGEST_TOKEN + 1,
            sizes=ContextSizes(context_length, -(-size // LONGEST_TOKEN)),
        )


def characters(messages: Iterable[Mapping[str, Any]]) -> int:
    """Returns how long their texts are together."""
    return sum(len(str(message.get("content") or "")) for message in messages)


def room_for(request: JobRequest, prompt_length: int, context_length: int) -> int:
    """Returns how many completion tokens the job may have. Raises `ContextLengthExceeded` naming both numbers."""
    asked = request.sampling.max_tokens
    param = "messages" if isinstance(request.input, ChatPrompt) else "prompt"
    left = context_length - prompt_length
    if asked is None and left > 0:
        return min(left, request.sampling.at_most or left)
    if asked is not None and (asked <= left or (request.sampling.clamp and left > 0)):
        return min(asked, left)
    wanted = prompt_length + (asked or 1)
    raise ContextLengthExceeded(
        f"This model's maximum context length is {context_length} tokens. However, you requested {wanted} tokens "
        f"({prompt_length} in the {param}, {asked or 1} in the completion). Please reduce the length of the {param} "
        "or completion.",
        param=param,
        needed=wanted,
        sizes=ContextSizes(context_length, prompt_length, asked or 1 if left > 0 else 0),
    )
