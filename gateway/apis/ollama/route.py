"""Ollama's native API: chat, generate, embeddings, and what there is to know of models."""

import time
from functools import partial
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.common.broker.models.directory import ModelInfo
from millstream.gateway.apis.admin.models import unknown_model, usable_models
from millstream.gateway.apis.endpoint import Api, Dialect, Endpoint, StreamWriter, WholeWriter
from millstream.gateway.apis.ollama import examples
from millstream.gateway.apis.ollama.errors import ollama_error
from millstream.gateway.apis.ollama.models import process, shown, tag
from millstream.gateway.apis.ollama.read import (
    images_of,
    prepare_embed,
    prepare_generate,
    prepare_old_embed,
    prepare_ollama_chat,
)
from millstream.gateway.apis.ollama.shape import (
    LATEST,
    GeneratingBody,
    OllamaChatRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaOldEmbedRequest,
    OllamaShowRequest,
)
from millstream.gateway.apis.ollama.write import (
    Form,
    LineStream,
    Said,
    Timing,
    as_message,
    as_response,
    embed_body,
    old_embed_body,
    timestamp,
    whole_answer,
)
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.apis.shared.read.messages import missing
from millstream.gateway.services.services import InServices, Services

router = APIRouter(tags=["ollama"], route_class=JsonRoute)
LINES = "application/x-ndjson"
VERSION = "0.12.11"  # of Ollama, whose API this is: some clients refuse to speak to an older one


def _whole_chat(body: OllamaChatRequest) -> WholeWriter:
    return partial(whole_answer, asked=body.asked, form=as_message, timing=Timing())


def _chat_stream(body: OllamaChatRequest) -> StreamWriter:
    return partial(LineStream, asked=body.asked, form=as_message, timing=Timing())


def _whole_generate(body: OllamaGenerateRequest) -> WholeWriter:
    return partial(whole_answer, asked=body.asked, form=as_response, timing=Timing())


def _generate_stream(body: OllamaGenerateRequest) -> StreamWriter:
    return partial(LineStream, asked=body.asked, form=as_response, timing=Timing())


def _embedded(body: OllamaEmbedRequest) -> WholeWriter:
    return partial(embed_body, asked=body.asked, timing=Timing())


def _embedded_one(body: OllamaOldEmbedRequest) -> WholeWriter:
    return old_embed_body


CHAT = Endpoint(
    path="/api/chat",
    shape=OllamaChatRequest,
    id_family="chatcmpl",
    read=prepare_ollama_chat,
    whole=_whole_chat,
    stream=_chat_stream,
    examples=answers(examples.CHAT, examples.CHAT_STREAM, media=LINES),
    images=images_of,
)
GENERATE = Endpoint(
    path="/api/generate",
    shape=OllamaGenerateRequest,
    id_family="cmpl",
    read=prepare_generate,
    whole=_whole_generate,
    stream=_generate_stream,
    examples=answers(examples.GENERATED, examples.GENERATE_STREAM, media=LINES),
    images=images_of,
)
EMBED = Endpoint(
    path="/api/embed",
    shape=OllamaEmbedRequest,
    id_family="embd",
    read=prepare_embed,
    whole=_embedded,
    examples=answers(examples.EMBEDDED),
)
OLD_EMBED = Endpoint(
    path="/api/embeddings",
    shape=OllamaOldEmbedRequest,
    id_family="embd",
    read=prepare_old_embed,
    whole=_embedded_one,
    examples=answers({"embedding": [0.013, -0.021]}),
)
API = Api(router, [CHAT, GENERATE, EMBED, OLD_EMBED], Dialect("/api/", ollama_error))


@router.post(CHAT.path, summary="Continue a conversation (Ollama's API)", responses=CHAT.examples)
async def ollama_chat(body: OllamaChatRequest, request: Request, services: InServices) -> Response:
    """Answers with lines of JSON, or (`"stream": false`) one object. Without messages nothing is generated."""
    if not body.messages:
        return await _nothing(body, as_message, request, services)
    return await CHAT.answer(body, request, services)


@router.post(GENERATE.path, summary="Answer a prompt (Ollama's API)", responses=GENERATE.examples)
async def ollama_generate(body: OllamaGenerateRequest, request: Request, services: InServices) -> Response:
    """Answers with lines of JSON, or (`"stream": false`) one object. Without a prompt nothing is generated."""
    if not body.prompt:
        return await _nothing(body, as_response, request, services)
    return await GENERATE.answer(body, request, services)


@router.post(EMBED.path, summary="Turn texts into vectors (Ollama's API)", responses=EMBED.examples)
async def ollama_embed(body: OllamaEmbedRequest, request: Request, services: InServices) -> Response:
    """Returns a vector per text."""
    return await EMBED.answer(body, request, services)


@router.post(OLD_EMBED.path, summary="Turn one text into a vector (Ollama's API)", responses=OLD_EMBED.examples)
async def ollama_old_embed(body: OllamaOldEmbedRequest, request: Request, services: InServices) -> Response:
    """Returns the one vector, in the older form."""
    return await OLD_EMBED.answer(body, request, services)


@router.get("/api/tags", summary="List the models (Ollama's API)", responses=answers(examples.TAGS))
async def ollama_tags(request: Request, services: InServices) -> Response:
    """Lists the models of `/v1/models`."""
    return _json({"models": [tag(info) for info in await usable_models(request, services)]})


@router.get("/api/ps", summary="List the models that run (Ollama's API)", responses=answers(examples.RUNNING))
async def ollama_ps(request: Request, services: InServices) -> Response:
    """Lists the models that have a live worker."""
    return _json({"models": [process(info) for info in await usable_models(request, services) if info.live]})


@router.post("/api/show", summary="Look at one model (Ollama's API)", responses=answers(examples.SHOWN))
async def ollama_show(body: OllamaShowRequest, request: Request, services: InServices) -> Response:
    """Tells what the cluster knows of the model: its context length and what it can do."""
    asked = body.asked or body.name
    if asked is None:
        raise missing("model")
    return _json(shown(await _known(asked, request, services)))


@router.get("/api/version", summary="Whose API this is", responses=answers({"version": VERSION}))
async def ollama_version() -> Response:
    """Returns the version of Ollama that the routes under `/api` are like."""
    return _json({"version": VERSION})


async def _known(asked: str, request: Request, services: Services) -> ModelInfo:
    """Returns the model, if the key may use it. Raises `ModelNotFound`."""
    models = await usable_models(request, services)
    name = await services.model(asked.removesuffix(LATEST))
    found = next((info for info in models if info.name == name), None)
    if found is None:
        raise unknown_model(asked, models)
    return found


async def _nothing(body: GeneratingBody, form: Form, request: Request, services: Services) -> Response:
    """Answers a request without a prompt. With it, clients ask for a model to be loaded, or (`keep_alive` 0) to be
    unloaded. Here workers do that when it is needed, so the answer only tells that the model is there."""
    await _known(body.asked, request, services)
    reason = "unload" if body.keep_alive in (0, "0", "0s") else "load"
    made = {"model": body.asked, "created_at": timestamp(time.time())} | form(Said())
    return _json(made | {"done": True, "done_reason": reason})


def _json(body: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
