"""Turns Ollama's bodies into prepared requests: they are rewritten as a chat, whose reader does the rest."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from millstream.common.job import JobRequest, TextPrompt
from millstream.gateway.apis.chat.read import choice_request, prepare_chat, rewritten
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.computing.embeddings.read import prepare_embeddings
from millstream.gateway.apis.computing.embeddings.shape import EmbeddingRequest
from millstream.gateway.apis.ollama.messages import chat_messages, with_images
from millstream.gateway.apis.ollama.shape import (
    GeneratingBody,
    OllamaChatRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaOldEmbedRequest,
    OllamaOptions,
)
from millstream.gateway.apis.shared.read.guides import guide
from millstream.gateway.apis.shared.read.messages import ChatMessage, unsupported
from millstream.gateway.apis.shared.read.sampling import choice_seed, sampling
from millstream.gateway.errors.table import FieldError
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared, streamed

TEMPERATURE, TOP_K, TOP_P = 0.8, 40, 0.9  # Ollama's defaults
REFUSED = {
    "suffix": "the models here go on from a text, they do not fill a gap in it",
    "template": "a model's own chat template is used; send the whole text with 'raw'",
    "context": "send the conversation's messages to /api/chat",
}
NEUTRAL = {"typical_p": 1.0, "tfs_z": 1.0, "mirostat": 0, "penalize_newline": True}  # values that change nothing


def prepare_ollama_chat(body: OllamaChatRequest, context: RequestContext) -> PreparedRequest:
    """Returns the one job of a chat. Raises `BadRequest` naming the field at fault."""
    return prepare_chat(_chat(body, chat_messages(body.messages or [], context.vision), body), _placed(context))


def prepare_generate(body: OllamaGenerateRequest, context: RequestContext) -> PreparedRequest:
    """Returns the one job of a prompt. Raises `BadRequest` naming the field at fault."""
    for name, why in REFUSED.items():
        if getattr(body, name):
            raise unsupported(name, why)
    prompt = with_images(body.prompt or "", body.images, "images", None if body.raw else context.vision)
    said: list[ChatMessage] = [{"role": "user", "content": prompt}]
    if body.system:
        said.insert(0, {"role": "system", "content": body.system})
    asked = _chat(body, said)
    if not body.raw:
        return prepare_chat(asked, _placed(context))
    if body.system:
        raise unsupported("system", "with 'raw' the prompt is the whole text")
    return _raw(body, asked, _placed(context))


def _raw(body: OllamaGenerateRequest, asked: ChatRequest, context: RequestContext) -> PreparedRequest:
    """Returns the job that continues the prompt as it is, without the model's template."""
    logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
    chosen = sampling(asked, asked.max_tokens or context.default_max_tokens, logprobs)
    job = JobRequest(TextPrompt(body.prompt or ""), chosen, guide(asked, asked.response_format))
    made = prepared(context, body, [choice_request(job, choice_seed(asked.seed, 0), 0)])
    return streamed(made, asked.stream, include_usage=False)


def images_of(body: OllamaChatRequest | OllamaGenerateRequest) -> list[str]:
    """Returns the images that a body shows, as it shows them."""
    if isinstance(body, OllamaGenerateRequest):
        return [str(image) for image in body.images or []]
    return [str(image) for message in body.messages or [] for image in message.images or []]


def prepare_embed(body: OllamaEmbedRequest, context: RequestContext) -> PreparedRequest:
    """Returns the jobs of a list of texts, those of `/v1/embeddings`. Raises `BadRequest` naming the text at fault."""
    cut = body.truncate is not False
    asked = EmbeddingRequest(model=body.model, input=body.input, dimensions=body.dimensions, truncate=cut)
    return prepare_embeddings(asked, _placed(context))


def prepare_old_embed(body: OllamaOldEmbedRequest, context: RequestContext) -> PreparedRequest:
    """Returns the job of one text."""
    return prepare_embeddings(EmbeddingRequest(model=body.model, input=body.prompt, truncate=True), _placed(context))


def _placed(context: RequestContext) -> RequestContext:
    """Returns the context without `Last-Event-ID`: lines carry no ids, so that it says nothing here."""
    return replace(context, caller=replace(context.caller, last_event_id=None))


def _chat(body: GeneratingBody, said: list[ChatMessage], chat: OllamaChatRequest | None = None) -> ChatRequest:
    options = body.options or OllamaOptions()
    _check(options)
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": said,
        "stream": body.stream is not False,
        "tools": [tool.model_dump(exclude_none=True) for tool in chat.tools or []] or None if chat else None,
        "response_format": _format(body.format),
        "logprobs": body.logprobs,
        "top_logprobs": body.top_logprobs,
        "reasoning_effort": body.think if isinstance(body.think, str) else None,
        "chat_template_kwargs": None if body.think is None else {"enable_thinking": body.think is not False},
        **dict(_sampling(options)),
    }
    return rewritten(fields)


def _sampling(options: OllamaOptions) -> Iterator[tuple[str, Any]]:
    yield "temperature", TEMPERATURE if options.temperature is None else options.temperature
    yield "top_k", TOP_K if options.top_k is None else options.top_k
    yield "top_p", TOP_P if options.top_p is None else options.top_p
    yield "min_p", options.min_p
    yield "seed", None if options.seed == -1 else options.seed
    yield "max_tokens", options.num_predict if options.num_predict and options.num_predict > 0 else None
    yield "stop", options.stop
    yield "repetition_penalty", options.repeat_penalty
    yield "presence_penalty", options.presence_penalty
    yield "frequency_penalty", options.frequency_penalty


def _check(options: OllamaOptions) -> None:
    for name, neutral in NEUTRAL.items():
        if getattr(options, name) not in (None, neutral):
            raise unsupported(f"options.{name}", f"only {neutral} is, which changes nothing")
    penalties = (options.repeat_penalty, options.presence_penalty, options.frequency_penalty)
    if options.repeat_last_n not in (None, -1) and any(penalties):
        raise unsupported("options.repeat_last_n", "only -1 is: penalties look at the whole text")
    if options.num_predict == 0:
        message = "Invalid 'options.num_predict': 0 asks for no text. Expected -1 (no bound) or at least 1."
        raise FieldError(message, param="options.num_predict", wire_code="invalid_value")


def _format(wanted: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if not wanted:
        return None
    if isinstance(wanted, str):
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}}
