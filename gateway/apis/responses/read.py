"""Turns `POST /v1/responses` into a prepared request: the turn is rewritten as a chat, and the chat's reader does the
rest."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from millstream.common.errors import BadRequest, MillstreamError
from millstream.common.job import JobRequest, TokenizeInput
from millstream.gateway.apis.chat.read import prepare_chat, rewritten
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.responses.input.items import Item, item_messages
from millstream.gateway.apis.responses.input.tools import chat_choice, chat_tools, offered_tools
from millstream.gateway.apis.responses.shape import ResponseItem, ResponseRequest, TextFormat
from millstream.gateway.apis.shared.read.messages import as_text, missing, unsupported
from millstream.gateway.apis.shared.read.tools import nothing_to_call, shown_tools
from millstream.gateway.apis.shared.shapes.sampling import OpenSampling
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared, question
from millstream.gateway.requests.vision import Vision

REFUSED = {
    "prompt": "there are no stored prompts here; send the text",
    "moderation": "there is no moderation model here",
    "context_management": "nothing is compacted here; use 'truncation'",
}


SHOWN_TOOL = re.compile(r"^tools\[(\d+)\]")
TERMS = {
    "messages": "input",
    "response_format": "text.format",
    "response_format.json_schema.schema": "text.format.schema",
}


def in_own_terms(error: MillstreamError, body: ResponseRequest) -> None:
    """Names the field at fault as the client wrote it: the chat's reader and the workers know the chat's names, and
    count the tools that the model sees."""
    if error.param is not None:
        flat = error.param.replace(".allowed_tools", "").replace(".function", "").replace(".custom", "")
        flat = SHOWN_TOOL.sub(lambda found: _written_path(found, body), flat)
        own = TERMS.get(flat, flat)
        error.message, error.param = error.message.replace(f"'{error.param}'", f"'{own}'"), own


def _written_path(shown: re.Match[str], body: ResponseRequest) -> str:
    """Returns where the client wrote the tool that the model sees at this place."""
    if len(found := offered_tools(body.tools)) > int(shown[1]):
        return found[int(shown[1])].path
    return shown[0]


def prepare_response(
    body: ResponseRequest,
    place: RequestContext,
    history: list[Item],
    dropped: int = 0,
) -> PreparedRequest:
    """Returns the one job of a response. `history`: the items of the turns before; the oldest `dropped` of all items
    are left out. Raises `BadRequest` naming the field."""
    _check(body)
    before, now = history[dropped:], own_items(body)[max(0, dropped - len(history)) :]
    order = prepare_chat(_chat(body, _messages(body, before, now, place.vision)), place)
    return order if body.conversation is None else _as_asked(order, body)


def _as_asked(order: PreparedRequest, body: ResponseRequest) -> PreparedRequest:
    """Returns the request with the fingerprint of what was asked: a conversation has grown when a retry comes."""
    fingerprint = hashlib.sha256(question(body)).hexdigest()
    return replace(order, submission=replace(order.submission, fingerprint=fingerprint))


def own_items(body: ResponseRequest) -> list[Item]:
    """Returns this turn's own items."""
    return [ResponseItem(role="user", content=body.input)] if isinstance(body.input, str) else body.input


def prepare_count(body: ResponseRequest, place: RequestContext, history: list[Item]) -> PreparedRequest:
    """Returns a job that only counts the tokens of the turn's input."""
    _check(body)
    messages = as_text(_messages(body, history, own_items(body), place.vision))
    tools = shown_tools(chat_tools(body.tools))
    return prepared(place, body, [JobRequest(TokenizeInput(messages=messages, tools=tools))])


def _messages(
    body: ResponseRequest, before: list[Item], now: list[Item], vision: Vision | None
) -> list[dict[str, Any]]:
    messages = item_messages(before, "previous_response_id", vision) + item_messages(now, "input", vision)
    if body.instructions is not None:
        messages.insert(0, {"role": "system", "content": body.instructions})
    return messages


def droppings(items: list[Item], truncation: str | None) -> Iterator[int]:
    """Yields how many of the oldest items to leave out, in one attempt after the other: none, then (with `auto`) a 64th
    of them (at least one), twice that, … and all but the last; never a tool's answer without its call. Each attempt
    costs a worker the reading of the whole conversation, so there are eight at most, however long it is."""
    yield 0
    last, dropped, step = len(items) - 1, 0, -(-len(items) // 64)
    while truncation == "auto" and dropped < last:
        dropped = min(step, last)
        while dropped < last and items[dropped].type in ("function_call_output", "reasoning"):
            dropped += 1
        yield dropped
        step *= 2


def _check(body: ResponseRequest) -> None:
    for name, why in REFUSED.items():
        if getattr(body, name) is not None:
            raise unsupported(name, why)
    if not body.input:
        raise BadRequest("Invalid 'input': empty. Expected a text or at least one item.", param="input")
    if body.conversation is not None and body.previous_response_id is not None:
        message = "Only one of 'conversation' and 'previous_response_id' may be given: each tells all that came before."
        raise BadRequest(message, param="conversation")
    if body.background and body.store is False:
        raise BadRequest("A background response must be stored to be read later.", param="background")


def _chat(body: ResponseRequest, messages: list[dict[str, Any]]) -> ChatRequest:
    text, reasoning = body.text, body.reasoning
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": messages,
        "stream": body.stream,
        "tools": chat_tools(body.tools) or None,
        "tool_choice": _choice(body),
        "parallel_tool_calls": body.parallel_tool_calls,
        "response_format": _format(text.format) if text and text.format else None,
        "verbosity": text.verbosity if text else None,
        "reasoning_effort": reasoning.effort if reasoning else None,
        "max_completion_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "logprobs": wants_logprobs(body),
        "top_logprobs": body.top_logprobs if wants_logprobs(body) else None,
        "service_tier": body.service_tier,
        "user": body.user,
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
        "seed": body.seed,
        "chat_template_kwargs": body.chat_template_kwargs,
    }
    return rewritten(fields | _extras(body))


def _extras(body: ResponseRequest) -> dict[str, Any]:
    """Returns the extras of servers of open weights, which a chat has under the same names."""
    given = {name: getattr(body, name) for name in OpenSampling.model_fields}
    return given | {"structured_outputs": body.structured_outputs and body.structured_outputs.model_dump(by_alias=True)}


def wants_sealed(body: ResponseRequest) -> bool:
    """Tells whether reasoning items carry what the client must send back when it keeps the conversation itself."""
    return "reasoning.encrypted_content" in (body.include or [])


def wants_logprobs(body: ResponseRequest) -> bool:
    """Tells whether log probabilities were asked for, by `include` or by a number."""
    return "message.output_text.logprobs" in (body.include or []) or bool(body.top_logprobs)


def _choice(body: ResponseRequest) -> str | dict[str, Any] | None:
    """Returns the choice in a chat's terms. Where no tool is left, only a choice that demands one is wrong."""
    choice = chat_choice(body.tool_choice, body.tools)
    if choice == "required" and body.tools and not offered_tools(body.tools):
        raise nothing_to_call()
    return choice


def _format(wanted: TextFormat) -> dict[str, Any]:
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    if wanted.body is None:
        raise missing("text.format.schema")
    schema = {"name": wanted.name or "answer", "schema": wanted.body, "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": schema}
