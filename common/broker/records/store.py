# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Records of a tenant, kept for a while: stored completions and responses, files, batches."""

import builtins
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.records.quotas import Quota, Quotas
from millstream.common.broker.records.uptime import sought, uptime
from millstream.common.broker.scripts.script import Script

PAGE = 100  # records looked at in one round trip while a list is gathered


@dataclass(frozen=True, slots=True)
class Record:
    """One stored object: its JSON, and what lists are ordered by."""

    id: str
    created: int  # seconds since the epoch
    body: bytes  # JSON, opaque to the store
    size: int | None = field(default=None, compare=False)  # bytes that count against the quota; None: the body's


@dataclass(slots=True, kw_only=True)
class PutArgs:
    """A record and how long it lives; `anew`: only if it is there."""

    kind: str
    id: str
    created: int
    body: bytes
    ttl_ms: int
    anew: int


PUT = Script("record/put", PutArgs)


class RedisStore:
    """Implements `gateway.records.store.Store`. Every record has a time to live, its tenant's index the longest of
    them."""

    def __init__(self, broker: Broker, quotas: Mapping[str, Quota] | None = None) -> None:
        """`quotas`: how much a tenant may keep, by kind."""
        self._broker = broker
        self._quotas = Quotas(broker, quotas or {})

    async def put(
        self, tenant: str, kind: str, record: Record, ttl: float, *, anew: bool = False, always: bool = False
    ) -> None:
        """Writes the record for `ttl` seconds; with `anew` only if it is there, not deleted meanwhile. What is written
        anew, or `always`, counts against the tenant's quota and is kept beyond it. Raises `QuotaExceeded`."""
        ttl_ms, size = max(1, int(ttl * 1000)), len(record.body) if record.size is None else record.size
        await self._quotas.take(tenant, kind, record.id, size, ttl_ms, always=always or anew)
        args = PutArgs(kind=kind, id=record.id, created=record.created, body=record.body, ttl_ms=ttl_ms, anew=int(anew))
        if not await self._broker.run_on(PUT, keys.tenant_prefix(tenant), args):
            await self._quotas.free(tenant, kind, record.id)

    async def check_room(self, tenant: str, kind: str) -> None:
        """Raises `QuotaExceeded` if the tenant's quota is used up now."""
        await self._quotas.take(tenant, kind, "", 0, 0, always=False)

    async def get(self, tenant: str, kind: str, identity: str) -> Record | None:
        """Returns the record; None if it was never stored, has expired, was deleted, or is another tenant's. One that a
        server does not know which has just started is waited for: whoever has it may be about to write it again."""

        async def look() -> Record | None:
            return (await self._read(tenant, kind, [identity]))[0]

        return await sought(self._broker, keys.tenant_prefix(tenant), look)

    async def uptime(self, tenant: str) -> float:
        """Returns for how many seconds the server has run that has the tenant's records."""
        return await uptime(self._broker, keys.tenant_prefix(tenant))

    async def delete(self, tenant: str, kind: str, identity: str) -> bool:
        """Tells whether there was one."""
        async with redis_errors():
            pipe = self._broker.redis.pipeline(transaction=False)
            pipe.delete(keys.record(tenant, kind, identity))
            pipe.zrem(keys.records(tenant, kind), identity)
            deleted, _ = await pipe.execute()
        await self._quotas.free(tenant, kind, identity)
        return bool(deleted)

    async def list(
        self, tenant: str, kind: str, *, after: str | None = None, limit: int = 20, descending: bool = False
    ) -> builtins.list[Record]:
        """Lists records by (created, id), those after the record `after` (unknown: from the start). Records that have
        expired leave the index here."""
        found: builtins.list[Record] = []
        at = await self._after(tenant, kind, after, descending)
        while len(found) < limit:
            ids = await self._page(tenant, kind, at, descending)
            records = await self._read(tenant, kind, ids)
            gone = [id for id, record in zip(ids, records, strict=True) if record is None]
            found += [record for record in records if record is not None]
            if gone:
                await self._forget(tenant, kind, gone)
            if len(ids) < PAGE:
                break
            at += len(ids) - len(gone)
        return found[:limit]

    async def _after(self, tenant: str, kind: str, after: str | None, descending: bool) -> int:
        if after is None:
            return 0
        index = keys.records(tenant, kind)
        async with redis_errors():
            ask = self._broker.redis.zrevrank if descending else self._broker.redis.zrank
            rank = await cast(Awaitable[int | None], ask(index, after))
        return 0 if rank is None else rank + 1

    async def _page(self, tenant: str, kind: str, at: int, descending: bool) -> Sequence[str]:
        async with redis_errors():
            command = self._broker.redis.zrange(keys.records(tenant, kind), at, at + PAGE - 1, desc=descending)
            return await cast(Awaitable[Sequence[str]], command)

    async def _read(self, tenant: str, kind: str, ids: Sequence[str]) -> Sequence[Record | None]:
        if not ids:
            return []
        async with redis_errors():
            pipe = self._broker.redis.pipeline(transaction=False)
            for id in ids:
                pipe.hmget(keys.record(tenant, kind, id), ["created", "body"])
            rows = cast(Sequence[tuple[str | None, str | None]], await pipe.execute())
        return [
            Record(id, int(created), body.encode()) if created is not None and body is not None else None
            for id, (created, body) in zip(ids, rows, strict=True)
        ]

    async def _forget(self, tenant: str, kind: str, ids: Sequence[str]) -> None:
        async with redis_errors():
            await cast(Awaitable[int], self._broker.redis.zrem(keys.records(tenant, kind), *ids))
