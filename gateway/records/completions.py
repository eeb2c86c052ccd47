"""Stored chat completions: answers with `store: true`, kept with their messages and metadata."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from millstream.common.errors import NotFound
from millstream.common.request_id import parse_request_id
from millstream.gateway.records.lost import missing
from millstream.gateway.records.store import Record, RecordStore, walk


class StoredCompletion(msgspec.Struct):
    """One stored completion: the answer as it was given, and the messages it answered."""

    completion: dict[str, Any]
    messages: list[dict[str, Any]]

    @property
    def id(self) -> str:
        """Returns the completion's id."""
        return str(self.completion["id"])

    def matches(self, model: str | None, metadata: dict[str, str]) -> bool:
        """Tells whether a filtered list shows it."""
        own = self.completion["metadata"]
        same_model = model is None or self.completion["model"] == model
        return same_model and all(own.get(key) == value for key, value in metadata.items())


class StoredCompletions:
    """A tenant's stored completions."""

    def __init__(self, store: RecordStore, tenant: str, ttl: float) -> None:
        self._store = store
        self._tenant = tenant
        self._ttl = ttl

    async def check_room(self) -> None:
        """Raises `QuotaExceeded` if the tenant may keep no more, `Unavailable`."""
        await self._store.check_room(self._tenant, "completion")

    async def put(self, kept: StoredCompletion) -> None:
        """Keeps it, new or anew. Raises `QuotaExceeded`, `Unavailable`."""
        record = Record(kept.id, parse_request_id(kept.id).created, msgspec.json.encode(kept))
        await self._store.put(self._tenant, "completion", record, self._ttl)

    async def get(self, identity: str) -> StoredCompletion:
        """Raises `NotFound`."""
        record = await self._store.get(self._tenant, "completion", identity)
        if record is None:
            raise await self._unknown(identity)
        return msgspec.json.decode(record.body, type=StoredCompletion)

    async def delete(self, identity: str) -> None:
        """Raises `NotFound`."""
        if not await self._store.delete(self._tenant, "completion", identity):
            raise await self._unknown(identity)

    async def walk(self, after: str | None, *, descending: bool) -> AsyncGenerator[StoredCompletion]:
        """Yields all completions after `after`, by their age."""
        async with aclosing(walk(self._store, self._tenant, "completion", after, descending=descending)) as records:
            async for record in records:
                yield msgspec.json.decode(record.body, type=StoredCompletion)

    async def _unknown(self, identity: str) -> NotFound:
        what = f"Completion '{identity[:80]}' not found: it was not stored, expired, or deleted"
        return missing(what, "id", identity, await self._store.uptime(self._tenant))
