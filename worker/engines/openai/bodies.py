"""Turns a job's request into what an upstream is asked: only what differs from OpenAI's defaults, so that a strict
server takes it too."""

import json
from typing import Any

from millstream.common.errors import BadGrammar, BadRequest
from millstream.common.job import ChatPrompt, Guide, JobRequest, Sampling, TextPrompt, TokensPrompt, ToolUse
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.refusals import refuse

UpstreamBody = dict[str, Any]
LLAMA, MILLSTREAM = "llama.cpp", "millstream"
TELLS_TOKENS = ("vllm", MILLSTREAM)  # servers that are known to follow `allowed_token_ids` and `bad_words`
WITHOUT_VLLMS = (LLAMA, "ollama")  # servers that pass over in silence what vLLM added to OpenAI's fields
EXTRAS = {"regex": "guided_regex", "choice": "guided_choice", "grammar": "guided_grammar"}  # Millstream's names


def body_of(request: JobRequest, abilities: Abilities) -> tuple[str, UpstreamBody]:
    """Returns the route under `/v1` and the body. Raises `BadRequest` for what the upstream cannot do."""
    _refuse_unknown(request, abilities.server)
    body: UpstreamBody = {"model": abilities.model, "stream": True}
    if abilities.usage:
        body["stream_options"] = {"include_usage": True}
    body |= _sampling(request.sampling, abilities)
    if request.guide is not None:
        body |= guide_body(request.guide, abilities)
    match request.input:
        case ChatPrompt() as prompt:
            return "/chat/completions", body | _chat(prompt, request, abilities)
        case TextPrompt(prompt) | TokensPrompt(prompt):
            return "/completions", body | _completion(prompt, request, abilities)
        case _:
            raise BadRequest("This job does not generate.")


def _refuse_unknown(request: JobRequest, server: str) -> None:
    """Raises `BadRequest` for the first parameter that the server would pass over in silence."""
    s = request.sampling
    untold = {"prompt_logprobs": request.prompt_logprobs is not None}
    if server not in TELLS_TOKENS:
        untold |= {"allowed_token_ids": bool(s.allowed_token_ids), "bad_words": bool(s.bad_words)}
    if server in WITHOUT_VLLMS:
        untold |= {"min_tokens": s.min_tokens > 0, "stop_token_ids": bool(s.stop_token_ids)}
        untold |= {"include_stop_str_in_output": s.include_stop}
    refuse(untold, server)


def going_on(messages: list[dict[str, Any]], abilities: Abilities) -> UpstreamBody:
    """Returns the fields by which a chat goes on from the beginning of its last, an assistant's, message."""
    if abilities.server == LLAMA:  # does so whenever the last message is an assistant's
        return {"messages": messages}
    return {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}


def shows(messages: list[dict[str, Any]]) -> bool:
    """Tells whether a message has parts that are not text: text alone is one string."""
    return any(isinstance(message.get("content"), list) for message in messages)


def _chat(prompt: ChatPrompt, request: JobRequest, abilities: Abilities) -> UpstreamBody:
    if not abilities.chat:
        raise BadRequest("This model's upstream does not chat: use /v1/completions.", param="messages")
    if not abilities.images and shows(prompt.messages):
        raise BadRequest("This model's upstream reads no images.", param="messages")
    body: UpstreamBody = {"messages": prompt.messages}
    if prompt.continue_final_message:
        if not abilities.goes_on:
            message = "This model's upstream cannot go on from the beginning of a message."
            raise BadRequest(message, param="continue_final_message")
        body = going_on(prompt.messages, abilities)
    if prompt.tools and request.tool_use is not None:
        body |= {"tools": prompt.tools} | _tool_use(request.tool_use)
    kwargs = dict(prompt.template_kwargs)
    body |= {name: kwargs.pop(name) for name in ("reasoning_effort", "verbosity") if name in kwargs}
    if kwargs:
        body["chat_template_kwargs"] = kwargs
    if request.sampling.logprobs is not None:
        least = 1 if abilities.server == LLAMA else 0  # asked for none beside the chosen token it tells nothing
        body |= {"logprobs": True, "top_logprobs": max(least, request.sampling.logprobs)}
    return body


def _tool_use(use: ToolUse) -> UpstreamBody:
    body: UpstreamBody = {} if use.parallel else {"parallel_tool_calls": False}
    if use.choice == "required":
        body["tool_choice"] = "required"
    elif use.choice == "named":
        body["tool_choice"] = {"type": "function", "function": {"name": use.name}}
    return body


def _completion(prompt: str | list[int], request: JobRequest, abilities: Abilities) -> UpstreamBody:
    if not abilities.completions:
        raise BadRequest("This model's upstream has no /v1/completions: use /v1/chat/completions.", param="prompt")
    body: UpstreamBody = {"prompt": prompt}
    if request.echo:
        body["echo"] = True
    if request.sampling.logprobs is not None:
        body["logprobs"] = request.sampling.logprobs
    return body


def _sampling(sampling: Sampling, abilities: Abilities) -> UpstreamBody:
    body: UpstreamBody = {} if "temperature" in sampling.unset else {"temperature": sampling.temperature}
    if abilities.seed:
        body["seed"] = sampling.seed & 0x7FFFFFFF if abilities.server != MILLSTREAM else sampling.seed
    bound = sampling.max_tokens if sampling.max_tokens is not None else sampling.at_most
    if bound is not None:
        body["max_completion_tokens" if abilities.newer_bound else "max_tokens"] = bound
    repetition = "repeat_penalty" if abilities.server == LLAMA else "repetition_penalty"
    usual = Sampling()
    changed = {
        "top_p": (sampling.top_p, usual.top_p),
        "top_k": (sampling.top_k, usual.top_k),
        "min_p": (sampling.min_p, usual.min_p),
        repetition: (sampling.repetition_penalty, usual.repetition_penalty),
        "presence_penalty": (sampling.presence_penalty, usual.presence_penalty),
        "frequency_penalty": (sampling.frequency_penalty, usual.frequency_penalty),
        "min_tokens": (sampling.min_tokens, usual.min_tokens),
        "logit_bias": (sampling.logit_bias, usual.logit_bias),
        "allowed_token_ids": (sampling.allowed_token_ids, usual.allowed_token_ids),
        "bad_words": (sampling.bad_words, usual.bad_words),
        "stop": (sampling.stop, usual.stop),
        "stop_token_ids": (sampling.stop_token_ids, usual.stop_token_ids),
        "include_stop_str_in_output": (sampling.include_stop, usual.include_stop),
        "ignore_eos": (sampling.ignore_eos, usual.ignore_eos),
    }
    return body | {name: value for name, (value, default) in changed.items() if value != default}


def guide_body(guide: Guide, abilities: Abilities) -> UpstreamBody:
    """Returns the fields that ask for an answer of this form. Raises `BadGrammar` where the upstream has none."""
    match guide.kind:
        case "json_object":
            return {"response_format": {"type": "json_object"}}
        case "json_schema":
            schema = {"name": "answer", "schema": json.loads(guide.value), "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case kind:
            value = json.loads(guide.value) if kind == "choice" else guide.value
            if abilities.server == MILLSTREAM:
                return {EXTRAS[kind]: value}
            if abilities.server in ("vllm", "sglang"):
                return {"structured_outputs": {kind: value}}
            raise no_form(abilities.server, guide)


def no_form(server: str, guide: Guide) -> BadGrammar:
    """Returns the error for a form of answers that a server does not know."""
    message = f"This model's upstream ({server}) knows JSON schemas, but no {guide.kind} to follow."
    return BadGrammar(message, param=guide.param)
