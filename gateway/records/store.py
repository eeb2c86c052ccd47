"""The store of answers for later: stored completions and responses."""

from collections.abc import AsyncGenerator
from typing import Protocol

from millstream.common.broker.records.store import Record

# completion, draft, response, conversation, file, batch, vote; and item/<conversation> for the items of each
Kind = str

PAGE = 100  # records read at once

__all__ = ["PAGE", "Kind", "Record", "RecordStore", "walk"]


class RecordStore(Protocol):
    """Records of a tenant, by kind. Every record has a time to live; nothing is kept for ever."""

    async def put(
        self, tenant: str, kind: Kind, record: Record, ttl: float, *, anew: bool = False, always: bool = False
    ) -> None:
        """Writes the record for `ttl` seconds; with `anew` only if it is there, not deleted meanwhile. What is written
        anew, or `always`, is kept beyond the tenant's quota too. Raises `QuotaExceeded`, `Unavailable`."""
        ...

    async def check_room(self, tenant: str, kind: Kind) -> None:
        """Raises `QuotaExceeded` if the tenant's quota is used up now, `Unavailable`."""
        ...

    async def get(self, tenant: str, kind: Kind, identity: str) -> Record | None:
        """Returns the record; None if it was never stored, has expired, was deleted, or is another tenant's."""
        ...

    async def uptime(self, tenant: str) -> float:
        """Returns for how many seconds the server has run that has the tenant's records. Raises `Unavailable`."""
        ...

    async def delete(self, tenant: str, kind: Kind, identity: str) -> bool:
        """Tells whether there was one."""
        ...

    async def list(
        self, tenant: str, kind: Kind, *, after: str | None = None, limit: int = 20, descending: bool = False
    ) -> list[Record]:
        """Lists records by (created, id), those after the record `after` (unknown: from the start)."""
        ...


async def walk(
    store: RecordStore, tenant: str, kind: Kind, after: str | None = None, *, descending: bool = False
) -> AsyncGenerator[Record]:
    """Yields all records of a kind after the record `after`, by their age, a page of them read at once."""
    while True:
        page = await store.list(tenant, kind, after=after, limit=PAGE, descending=descending)
        for record in page:
            yield record
        if len(page) < PAGE:
            return
        after = page[-1].id
