"""`GET /v1/models` and `GET /v1/models/{id}`: the models that are served, read from Redis at the moment of asking."""

from typing import Any

from fastapi import APIRouter, Request

from millstream.common.broker.models.directory import ModelInfo
from millstream.common.broker.models.load_requests import LoadVerb
from millstream.common.errors import Forbidden, ModelNotFound
from millstream.gateway.apis.admin.anthropic_models import anthropic_model, anthropic_models, speaks_anthropic
from millstream.gateway.apis.admin.examples import SERVED
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.services.services import InServices, Services, key_of, tenant_of

router = APIRouter(tags=["models"])


@router.get("/v1/models", summary="List the models", responses=answers({"object": "list", "data": [SERVED]}))
async def list_models(request: Request, services: InServices) -> dict[str, Any]:
    """Lists models with live workers, and those whose workers are away while jobs may wait for them; of these the ones
    that the key may use."""
    models = await usable_models(request, services)
    if speaks_anthropic(request):
        return anthropic_models(models, request.query_params)
    return {"object": "list", "data": [model_object(model) for model in models]}


async def usable_models(request: Request, services: Services) -> list[ModelInfo]:
    """Returns the models that the caller's key may use."""
    return [info for info in await services.cluster.directory.models() if key_of(request).may_use(info.name)]


@router.get("/v1/models/{model:path}", summary="Look at one model", responses=answers(SERVED))
async def retrieve_model(model: str, request: Request, services: InServices) -> dict[str, Any]:
    """Returns one model, by its own name or an alias. A model that the key may not use is not found."""
    name = await services.model(model)
    models = await usable_models(request, services)
    for info in models:
        if info.name == name:
            return anthropic_model(info) if speaks_anthropic(request) else model_object(info)
    raise unknown_model(model, models)


@router.post(
    "/v1/models/{model:path}/load",
    summary="Load a model",
    responses=answers(SERVED | {"requested": "load"}, status=202),
    status_code=202,
)
async def load_model(model: str, request: Request, services: InServices) -> dict[str, Any]:
    """A worker that is configured for the model loads it. For the tenants in `admins`; answered before it is done."""
    return await _request_load(model, "load", request, services)


@router.post(
    "/v1/models/{model:path}/unload",
    summary="Unload a model",
    responses=answers(SERVED | {"requested": "unload"}, status=202),
    status_code=202,
)
async def unload_model(model: str, request: Request, services: InServices) -> dict[str, Any]:
    """Every worker that serves the model drains it and frees its memory; the next request loads it again."""
    return await _request_load(model, "unload", request, services)


async def _request_load(model: str, verb: LoadVerb, request: Request, services: Services) -> dict[str, Any]:
    if tenant_of(request) not in services.settings.admins:
        raise Forbidden("Only the tenants in the setting `admins` may load and unload models.")
    name = await services.model(model)
    models = await services.cluster.directory.models()
    for info in models:
        if info.name == name:
            await services.cluster.directory.request_load(info.name, verb)
            return {**model_object(info), "requested": verb}
    raise unknown_model(model, models)


def model_object(info: ModelInfo) -> dict[str, Any]:
    """Returns OpenAI's model object, with what else the cluster knows: null for what a model without live workers does
    not tell."""
    return {
        "id": info.name,
        "object": "model",
        "created": info.created,
        "owned_by": "millstream",
        "context_length": info.context_length or None,
        "max_model_len": info.context_length or None,
        "capabilities": list(info.capabilities) or None,
        "engine": info.engine or None,
        "generation_config": info.defaults,
        "system_fingerprint": info.fingerprint or None,
        "exactness": info.exactness or None,
        "workers": info.live,
        "waiting": info.waiting,
    }


def unknown_model(asked: str, models: list[ModelInfo]) -> ModelNotFound:
    """Returns the 404 that names the models there are."""
    there = ", ".join(f"'{model.name}'" for model in models) or "none yet: start a worker"
    return ModelNotFound(f"The model '{asked}' does not exist. Models served here: {there}.", param="model")
