"""Turns `POST /v1/chat/completions` into a prepared request."""

from typing import Any

import msgspec

from millstream.common.errors import BadRequest
from millstream.common.job import ChatPrompt, JobRequest, Sampling
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.chat.write import ChatForm
from millstream.gateway.apis.shared.read.guides import guide
from millstream.gateway.apis.shared.read.messages import template_messages, unsupported
from millstream.gateway.apis.shared.read.sampling import (
    check_prompt_logprobs,
    check_stream_options,
    choice_seed,
    sampling,
    tier,
    wants_running_usage,
)
from millstream.gateway.apis.shared.read.tools import Tools, tools
from millstream.gateway.errors.validation import shaped
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared, streamed
from millstream.gateway.requests.vision import Vision

REFUSED = {
    "audio": "the models here answer in text",
    "web_search_options": "there is no web search here; give the model a tool",
    "moderation": "there is no moderation model here",
}


def prepare_chat(body: ChatRequest, place: RequestContext) -> PreparedRequest:
    """Returns the jobs of a chat completion, one per choice. Raises `BadRequest` naming the field at fault."""
    _refuse(body)
    check_prompt_logprobs(body)
    used = tools(body)
    base = JobRequest(
        input=_prompt(body, used, place.vision),
        sampling=sampling(body, _max_tokens(body, place.default_max_tokens), _logprobs(body)),
        guide=guide(body, body.response_format),
        tool_use=used.use,
        prompt_logprobs=body.prompt_logprobs,
        prompt_ids=bool(body.return_token_ids),
    )
    first_seed = choice_seed(body.seed, 0)
    jobs = [choice_request(base, first_seed, index) for index in range(body.n or 1)]
    affinity = body.prompt_cache_key or body.safety_identifier or body.user or ""
    made = prepared(place, body, jobs, tier(body), affinity)
    return streamed(made, body.stream, check_stream_options(body))


def form_of(body: ChatRequest) -> ChatForm:
    """Returns the form in which the body's answer is to be written."""
    customs = frozenset(tool.custom.name for tool in body.tools or [] if tool.type == "custom" and tool.custom)
    return ChatForm(
        bool(body.functions),
        customs,
        token_ids=bool(body.return_token_ids),
        prompt_logprobs=body.prompt_logprobs is not None,
        running_usage=wants_running_usage(body),
    )


def rewritten(fields: dict[str, Any]) -> ChatRequest:
    """Returns another API's request as a chat. Raises `BadRequest` in the chat's terms."""
    return shaped(ChatRequest, fields)


def choice_request(base: JobRequest, seed: int, index: int) -> JobRequest:
    """Returns the base request as choice `index` of its prompt runs it."""
    chosen: Sampling = msgspec.structs.replace(base.sampling, seed=choice_seed(seed, index))
    return msgspec.structs.replace(base, sampling=chosen, repeats_prompt=index > 0)


def _refuse(body: ChatRequest) -> None:
    for name, why in REFUSED.items():
        if getattr(body, name) is not None:
            raise unsupported(name, why)
    if body.modalities and set(body.modalities) - {"text"}:
        raise unsupported("modalities", "only ['text'] is supported")


def _prompt(body: ChatRequest, used: Tools, vision: Vision | None) -> ChatPrompt:
    messages = template_messages(body.messages, vision)
    continued = bool(body.continue_final_message)
    if continued and messages[-1]["role"] != "assistant":
        message = "'continue_final_message' needs a last message of the role 'assistant' to go on from."
        raise BadRequest(message, param="continue_final_message")
    if continued and body.add_generation_prompt:
        message = "'add_generation_prompt' and 'continue_final_message' exclude each other."
        raise BadRequest(message, param="add_generation_prompt")
    return ChatPrompt(messages, used.shown, continued, _template_kwargs(body))


def _template_kwargs(body: ChatRequest) -> dict[str, Any]:
    """Returns the variables that the template may read beside messages and tools; the client's own arguments have the
    last word."""
    given = {"reasoning_effort": body.reasoning_effort, "verbosity": body.verbosity}
    return {name: value for name, value in given.items() if value is not None} | (body.chat_template_kwargs or {})


def _max_tokens(body: ChatRequest, default: int | None) -> int | None:
    if body.max_completion_tokens is not None and body.max_tokens is not None:
        message = "'max_tokens' and 'max_completion_tokens' cannot both be set; use 'max_completion_tokens'."
        raise BadRequest(message, param="max_tokens")
    if body.max_tokens == 0:
        message = "Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got 0 instead."
        raise BadRequest(message, param="max_tokens")
    return body.max_completion_tokens or body.max_tokens or default


def _logprobs(body: ChatRequest) -> int | None:
    if body.logprobs:
        return body.top_logprobs or 0
    if body.top_logprobs:
        message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
        raise BadRequest(message, param="top_logprobs")
    return None
