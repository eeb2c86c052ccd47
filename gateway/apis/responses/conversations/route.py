"""The Conversations API: create, read, change, delete; add, list, read and delete items."""

import secrets
import time
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse

from millstream.common.errors import BadRequest
from millstream.gateway.apis.responses.conversations.examples import CONVERSATION
from millstream.gateway.apis.responses.conversations.shape import ConversationUpdate, NewConversation, NewItems
from millstream.gateway.apis.responses.examples import INPUT_ITEM
from millstream.gateway.apis.responses.input.items import Item, item_messages
from millstream.gateway.apis.responses.input.listing import listed_items
from millstream.gateway.apis.shared.examples import answers, deleted, listed
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.apis.shared.read.queries import metadata_filter
from millstream.gateway.records.conversations import Conversations, StoredConversation, StoredItem, new_conversation
from millstream.gateway.requests.vision import Vision
from millstream.gateway.services.services import InServices, Services, tenant_of

router = APIRouter(tags=["conversations"], route_class=JsonRoute)
ItemLimit = Annotated[int, Query(ge=1, le=100)]
ItemOrder = Literal["asc", "desc"]
PATH = "/v1/conversations"


def conversations_of(request: Request, services: Services) -> Conversations:
    """Returns the tenant's conversations. Raises `BadRequest` where nothing is kept."""
    if services.cluster.store is None:
        raise BadRequest("This gateway keeps no conversations.", param="conversation")
    return Conversations(services.cluster.store, tenant_of(request), services.settings.stored_ttl)


def _conversations(request: Request, services: InServices) -> Conversations:
    return conversations_of(request, services)


InConversations = Annotated[Conversations, Depends(_conversations)]


def _object(kept: StoredConversation) -> dict[str, Any]:
    return {"id": kept.id, "object": "conversation", "created_at": kept.created_at, "metadata": kept.metadata}


def _listed(items: list[Item], services: Services) -> list[StoredItem]:
    """Returns the items as they are kept, each with an id of ours. Raises `BadRequest` naming the item at fault."""
    item_messages(items, "items", Vision(services.settings.max_image_bytes, services.settings.max_image_pixels))
    return listed_items([item.model_copy(update={"id": None}) for item in items], secrets.token_hex(16))


def _page(found: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    ends = {"first_id": found[0]["id"] if found else "", "last_id": found[-1]["id"] if found else ""}
    return {"object": "list", "data": found, **ends, "has_more": more}


@router.post(PATH, summary="Begin a conversation", responses=answers(CONVERSATION), response_model=dict[str, Any])
async def create_conversation(body: NewConversation, request: Request, services: InServices) -> JSONResponse:
    """Begins one, with items or without. A response that names it reads them and adds its own."""
    conversations = conversations_of(request, services)
    items = _listed(body.items or [], services)
    kept = new_conversation(body.metadata or {})
    await conversations.put(kept)
    await conversations.add(kept.id, items)
    return JSONResponse(_object(kept))


@router.get(PATH, summary="List conversations", responses=listed(CONVERSATION))
async def list_conversations(
    request: Request,
    conversations: InConversations,
    after: str | None = None,
    limit: ItemLimit = 20,
    order: ItemOrder = "desc",
) -> dict[str, Any]:
    """The tenant's own, the newest first unless asked otherwise; `metadata[key]=value` filters. OpenAI has no such
    list. `store_started_at` (seconds since the epoch): one that was made later and is not listed was deleted or has
    expired; an earlier one may have been lost with a restart of Redis."""
    wanted = metadata_filter(request.query_params)
    found: list[dict[str, Any]] = []
    async with aclosing(conversations.all(after, descending=order == "desc")) as walk:
        async for kept in walk:
            if wanted.items() <= kept.metadata.items():
                found.append(_object(kept))
            if len(found) > limit:
                break
    since = int(max(0.0, time.time() - await conversations.uptime()))
    return _page(found[:limit], more=len(found) > limit) | {"store_started_at": since}


@router.get(f"{PATH}/{{id}}", summary="Read a conversation", responses=answers(CONVERSATION))
async def retrieve_conversation(id: str, conversations: InConversations) -> dict[str, Any]:
    """Returns it without its items."""
    return _object(await conversations.get(id))


@router.post(
    f"{PATH}/{{id}}",
    summary="Change a conversation's metadata",
    responses=answers(CONVERSATION),
    response_model=dict[str, Any],
)
async def update_conversation(
    id: str, body: ConversationUpdate, request: Request, services: InServices
) -> JSONResponse:
    """Replaces all of the metadata."""
    conversations = conversations_of(request, services)
    kept = await conversations.get(id)
    kept.metadata = body.metadata or {}
    await conversations.put(kept)
    return JSONResponse(_object(kept))


@router.delete(
    f"{PATH}/{{id}}", summary="Delete a conversation", responses=deleted(CONVERSATION["id"], "conversation.deleted")
)
async def delete_conversation(id: str, conversations: InConversations) -> dict[str, Any]:
    """Forgets it and its items; the responses that added to it stay."""
    await conversations.delete(id)
    return {"id": id, "object": "conversation.deleted", "deleted": True}


@router.post(
    f"{PATH}/{{id}}/items",
    summary="Add items to a conversation",
    responses=listed(INPUT_ITEM),
    response_model=dict[str, Any],
)
async def create_items(id: str, body: NewItems, request: Request, services: InServices) -> JSONResponse:
    """Adds them at its end, and returns them with their ids."""
    conversations = conversations_of(request, services)
    await conversations.get(id)
    items = _listed(body.items, services)
    await conversations.add(id, items)
    return JSONResponse(_page(items, more=False))


@router.get(f"{PATH}/{{id}}/items", summary="List a conversation's items", responses=listed(INPUT_ITEM))
async def list_items(
    id: str, conversations: InConversations, after: str | None = None, limit: ItemLimit = 20, order: ItemOrder = "desc"
) -> dict[str, Any]:
    """The newest first, unless asked otherwise."""
    await conversations.get(id)
    return _page(*await conversations.page(id, after, limit, descending=order == "desc"))


@router.get(f"{PATH}/{{id}}/items/{{item_id}}", summary="Read an item", responses=answers(INPUT_ITEM))
async def retrieve_item(id: str, item_id: str, conversations: InConversations) -> dict[str, Any]:
    """Returns one item."""
    await conversations.get(id)
    return await conversations.item(id, item_id)


@router.delete(f"{PATH}/{{id}}/items/{{item_id}}", summary="Delete an item", responses=answers(CONVERSATION))
async def delete_item(id: str, item_id: str, conversations: InConversations) -> dict[str, Any]:
    """Takes it out, and returns the conversation."""
    kept = await conversations.get(id)
    await conversations.remove(id, item_id)
    return _object(kept)
