"""Stored chat completions: list, read, read the messages, change the metadata, delete."""

from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import ConfigDict
from starlette.responses import JSONResponse

from millstream.common.errors import BadRequest, NotFound
from millstream.gateway.apis.chat.examples import STORED, STORED_MESSAGE
from millstream.gateway.apis.chat.keeping import PromisedCompletions
from millstream.gateway.apis.shared.examples import ID, answers, deleted, listed
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.apis.shared.read.queries import metadata_filter
from millstream.gateway.apis.shared.shapes.base import Metadata, Shape
from millstream.gateway.records.completions import StoredCompletion, StoredCompletions
from millstream.gateway.services.services import InServices, Services, tenant_of

router = APIRouter(tags=["chat"], route_class=JsonRoute)
ListOrder = Literal["asc", "desc"]
Limit = Annotated[int, Query(ge=1, le=100)]


class MetadataUpdate(Shape):
    """The new metadata; null for none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"metadata": {"project": "mill"}}]})

    metadata: Metadata | None


def completions_of(request: Request, services: Services) -> StoredCompletions:
    """Returns the tenant's stored completions. Raises `BadRequest` where nothing is kept."""
    if services.cluster.store is None:
        raise BadRequest("This gateway stores no completions.", param="store")
    return StoredCompletions(services.cluster.store, tenant_of(request), services.settings.stored_ttl)


def promised_of(request: Request, services: Services) -> PromisedCompletions:
    """Returns the tenant's completions that are to be stored. Raises `BadRequest` where nothing is kept."""
    completions, store = completions_of(request, services), services.cluster.store
    assert store is not None
    return PromisedCompletions(store, services.cluster.unfinished, completions, tenant_of(request))


async def _found(identity: str, request: Request, services: Services) -> StoredCompletion:
    """Returns a stored completion; one whose gateway died before it stored it is stored now. Raises `NotFound`."""
    completions = completions_of(request, services)
    try:
        return await completions.get(identity)
    except NotFound:
        if not await promised_of(request, services).finish(services.cluster.queue, identity):
            raise NotFound(f"Completion '{identity[:80]}' is not complete yet.", param="id") from None
        return await completions.get(identity)


def _completions(request: Request, services: InServices) -> StoredCompletions:
    return completions_of(request, services)


InCompletions = Annotated[StoredCompletions, Depends(_completions)]


@router.get("/v1/chat/completions", summary="List stored completions", responses=listed(STORED))
async def list_completions(
    request: Request,
    completions: InCompletions,
    after: str | None = None,
    limit: Limit = 20,
    order: ListOrder = "asc",
    model: str | None = None,
) -> dict[str, Any]:
    """Lists the completions by age; `model` and `metadata[key]=value` filter."""
    wanted = metadata_filter(request.query_params)
    found: list[StoredCompletion] = []
    async with aclosing(completions.walk(after, descending=order == "desc")) as walk:
        async for kept in walk:
            if kept.matches(model, wanted):
                found.append(kept)
            if len(found) > limit:
                break
    return page([kept.completion for kept in found], limit)


@router.get("/v1/chat/completions/{id}", summary="Read a stored completion", responses=answers(STORED))
async def retrieve_completion(id: str, request: Request, services: InServices) -> dict[str, Any]:
    """Returns the completion as it was answered."""
    return (await _found(id, request, services)).completion


@router.get(
    "/v1/chat/completions/{id}/messages",
    summary="List the messages a stored completion answered",
    responses=listed(STORED_MESSAGE),
)
async def list_messages(
    id: str,
    request: Request,
    services: InServices,
    after: str | None = None,
    limit: Limit = 20,
    order: ListOrder = "asc",
) -> dict[str, Any]:
    """Lists the messages in the order of the conversation, or from its end."""
    kept = await _found(id, request, services)
    shown = [{"id": f"{id}-{index}", **message} for index, message in enumerate(kept.messages)]
    shown = shown if order == "asc" else shown[::-1]
    ids = [message["id"] for message in shown]
    begin = ids.index(after) + 1 if after in ids else 0
    return page(shown[begin : begin + limit + 1], limit)


@router.post(
    "/v1/chat/completions/{id}",
    summary="Change a stored completion's metadata",
    responses=answers(STORED),
    response_model=dict[str, Any],
)
async def update_completion(id: str, body: MetadataUpdate, request: Request, services: InServices) -> JSONResponse:
    """Replaces all of the metadata."""
    completions = completions_of(request, services)
    kept = await _found(id, request, services)
    kept.completion["metadata"] = body.metadata or {}
    await completions.put(kept)
    return JSONResponse(kept.completion)


@router.delete(
    "/v1/chat/completions/{id}", summary="Delete a stored completion", responses=deleted(ID, "chat.completion.deleted")
)
async def delete_completion(id: str, completions: InCompletions) -> dict[str, Any]:
    """Forgets it and its messages."""
    await completions.delete(id)
    return {"id": id, "object": "chat.completion.deleted", "deleted": True}


def page(found: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """Returns OpenAI's list; `found` holds one more than `limit` if there are more."""
    shown = found[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(found) > limit,
    }
