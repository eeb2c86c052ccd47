"""Conversations: a tenant's items in a row, to which turns add theirs. Each item is a record of its own, so that two
turns that end at once lose nothing."""

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from millstream.common.errors import NotFound
from millstream.gateway.records.store import PAGE, Record, RecordStore, walk

ITEMS = "item/"  # begins the kind of a conversation's items; its id follows
TICKS = 1_000_000  # a second of the items' order: items come many in one second

StoredItem = dict[str, Any]  # as it is listed, with its id


class StoredConversation(msgspec.Struct):
    """One conversation, without its items."""

    id: str
    created_at: int  # seconds since the epoch
    metadata: dict[str, str] = {}


def new_conversation(metadata: dict[str, str]) -> StoredConversation:
    """Returns a conversation that begins now."""
    return StoredConversation(f"conv_{secrets.token_hex(16)}", int(time.time()), metadata)


class Conversations:
    """A tenant's conversations. All methods raise `Unavailable` while Redis is away."""

    def __init__(self, store: RecordStore, tenant: str, ttl: float) -> None:
        """`ttl`: seconds that a conversation is kept from its last change on, and each item from its coming."""
        self._store = store
        self._tenant = tenant
        self._ttl = ttl

    async def put(self, kept: StoredConversation) -> None:
        """Keeps it, new or anew. Raises `QuotaExceeded`."""
        record = Record(kept.id, kept.created_at, msgspec.json.encode(kept))
        await self._store.put(self._tenant, "conversation", record, self._ttl)

    async def get(self, identity: str) -> StoredConversation:
        """Raises `NotFound`."""
        record = await self._store.get(self._tenant, "conversation", identity)
        if record is None:
            raise NotFound(f"Conversation with id '{identity[:80]}' not found.", param="conversation_id")
        return msgspec.json.decode(record.body, type=StoredConversation)

    async def all(self, after: str | None, *, descending: bool) -> AsyncGenerator[StoredConversation]:
        """Yields all conversations after `after`, by their age."""
        async with aclosing(walk(self._store, self._tenant, "conversation", after, descending=descending)) as records:
            async for record in records:
                yield msgspec.json.decode(record.body, type=StoredConversation)

    async def uptime(self) -> float:
        """Returns for how many seconds the server has run that has the tenant's conversations."""
        return await self._store.uptime(self._tenant)

    async def delete(self, identity: str) -> None:
        """Forgets it and its items. Raises `NotFound`."""
        await self.get(identity)
        await self._store.delete(self._tenant, "conversation", identity)
        while page := await self._store.list(self._tenant, ITEMS + identity, limit=PAGE):
            for record in page:
                await self._store.delete(self._tenant, ITEMS + identity, record.id)

    async def add(self, identity: str, items: Sequence[StoredItem], *, always: bool = False) -> None:
        """Adds the items at the conversation's end; those that it has already stay where they are. `always`: beyond the
        tenant's quota too. Raises `QuotaExceeded`."""
        now = int(time.time() * TICKS)
        for index, item in enumerate(items):
            if await self._store.get(self._tenant, ITEMS + identity, item["id"]) is None:
                record = Record(item["id"], now + index, msgspec.json.encode(item))
                await self._store.put(self._tenant, ITEMS + identity, record, self._ttl, always=always)
        await self._renew(identity)

    async def _renew(self, identity: str) -> None:
        """Keeps the conversation as long as what was added to it; one that was deleted meanwhile does not come back."""
        record = await self._store.get(self._tenant, "conversation", identity)
        if record is not None:
            await self._store.put(self._tenant, "conversation", record, self._ttl, anew=True)

    async def item(self, identity: str, item: str) -> StoredItem:
        """Raises `NotFound`."""
        record = await self._store.get(self._tenant, ITEMS + identity, item)
        if record is None:
            raise NotFound(f"Item with id '{item[:80]}' not found in this conversation.", param="item_id")
        return msgspec.json.decode(record.body)

    async def remove(self, identity: str, item: str) -> None:
        """Raises `NotFound`."""
        if not await self._store.delete(self._tenant, ITEMS + identity, item):
            raise NotFound(f"Item with id '{item[:80]}' not found in this conversation.", param="item_id")

    async def walk(
        self, identity: str, after: str | None = None, *, descending: bool = False
    ) -> AsyncGenerator[tuple[StoredItem, int]]:
        """Yields the items after `after`, the oldest first unless `descending`, each with its number of bytes."""
        kind = ITEMS + identity
        async with aclosing(walk(self._store, self._tenant, kind, after, descending=descending)) as records:
            async for record in records:
                yield msgspec.json.decode(record.body), len(record.body)

    async def page(
        self, identity: str, after: str | None, limit: int, *, descending: bool
    ) -> tuple[list[StoredItem], bool]:
        """Returns up to `limit` items, and whether there are more."""
        found: list[StoredItem] = []
        async with aclosing(self.walk(identity, after, descending=descending)) as walk:
            async for item, _ in walk:
                found.append(item)
                if len(found) > limit:
                    break
        return found[:limit], len(found) > limit
