"""Bounds what a tenant may keep: objects and bytes of each pool, counted exactly whichever gateway writes, freed when
an object is deleted or expires."""

from collections.abc import Mapping
from dataclasses import dataclass

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.scripts.script import Script
from millstream.common.errors import QuotaExceeded

DELETED = -1
RETRY = 60.0  # seconds: it is for the client to delete something, or for time


@dataclass(frozen=True, slots=True)
class Quota:
    """The bounds of one pool, 0 for none, and how a message calls them and what is in it."""

    pool: str
    objects: int
    bytes: int
    settings: tuple[str, str]  # of the two bounds
    what: str  # in the plural
    remedy: str


@dataclass(slots=True, kw_only=True)
class TakeArgs:
    """The arguments name the object and the bounds of its pool."""

    pool: str
    name: str
    size: int
    ttl_ms: int
    most_objects: int
    most_bytes: int
    always: int


TAKE = Script("quota/take", TakeArgs)


class Quotas:
    """The quotas of every tenant, by kind of record: for a kind such as `item/conv_1` by what it begins with. Kinds
    without one are not counted."""

    def __init__(self, broker: Broker, by_kind: Mapping[str, Quota]) -> None:
        self._broker = broker
        self._by_kind = by_kind

    async def take(self, tenant: str, kind: str, identity: str, size: int, ttl_ms: int, *, always: bool) -> None:
        """Counts an object that is about to be kept; `always`: even beyond the quota. With an empty identity it only
        looks whether there is room. Raises `QuotaExceeded`."""
        quota = self._by_kind.get(_counted_as(kind))
        if quota is None:
            return
        name = f"{kind}:{identity}" if identity else ""
        args = TakeArgs(
            pool=quota.pool,
            name=name,
            size=size,
            ttl_ms=ttl_ms,
            most_objects=quota.objects,
            most_bytes=quota.bytes,
            always=int(always),
        )
        answer, why = await self._broker.run_on(TAKE, keys.tenant_prefix(tenant), args)
        if answer == "refused":
            raise _exceeded(quota, why)

    async def free(self, tenant: str, kind: str, identity: str) -> None:
        """The object is gone."""
        if _counted_as(kind) in self._by_kind:
            await self.take(tenant, kind, identity, DELETED, 0, always=True)


def _counted_as(kind: str) -> str:
    return kind.partition("/")[0]


def _exceeded(quota: Quota, why: str) -> QuotaExceeded:
    by_count = why == "count"
    most = f"{quota.objects:,} {quota.what}" if by_count else f"{quota.bytes:,} bytes of {quota.what}"
    setting = quota.settings[0 if by_count else 1]
    return QuotaExceeded(
        f"No room is left: at most {most} are kept for one tenant (setting `{setting}`). {quota.remedy}",
        retry_after=RETRY,
    )
