"""Turns a job's request into what the engine runs: the prompt's token ids, and how many tokens there is room for."""

from collections.abc import Iterable, Mapping
from typing import Any

from millstream.common.chunk import ContextSizes
from millstream.common.errors import BadRequest, ContextLengthExceeded
from millstream.common.job import ChatPrompt, JobRequest, TextPrompt, TokensPrompt
from millstream.worker.engines.base import Tokenizer
from millstream.worker.text.parsers.formats import CallFormat
from millstream.worker.text.tool_prompts import teaches_tools, tell_tools

LONGEST_TOKEN = 16  # characters a token stands for at most, on average over a long text


def template_of(tokenizer: Tokenizer) -> str:
    """Returns the model's chat template, empty if it has none."""
    return str(getattr(tokenizer, "chat_template", "") or "")


def prompt_ids(tokenizer: Tokenizer, request: JobRequest, notation: CallFormat) -> list[int]:
    """Returns the prompt as token ids; `notation` is how tool calls are written. Raises `BadRequest` for what the chat
    template refuses or an empty prompt."""
    match request.input:
        case ChatPrompt(messages, tools, go_on, kwargs):
            if tools and not teaches_tools(template_of(tokenizer)):
                messages, tools = tell_tools(messages, tools, notation), []
            ids = tokenizer.chat(messages, tools, go_on=go_on, kwargs=kwargs)
        case TextPrompt(text):
            ids = tokenizer.encode(text)
        case TokensPrompt(given):
            ids = given
        case _:
            raise BadRequest("This job does not generate.")
    if not ids:
        raise BadRequest("The prompt is empty: give at least one token.", param="prompt")
    return ids


def check_characters(size: int, context_length: int, param: str) -> None:
    """Refuses at once what minutes of work would find to be too long. Raises `ContextLengthExceeded`."""
    if size > context_length * LONGEST_TOKEN:
        raise ContextLengthExceeded(
            f"This model's maximum context length is {context_length} tokens. However, the {param} has {size} "
            f"characters, which are more tokens than that. Please reduce the length of the {param}.",
            param=param,
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
        sizes=ContextSizes(context_length, prompt_length, asked or 1 if left > 0 else 0),
    )
