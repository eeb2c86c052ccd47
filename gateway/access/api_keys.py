"""The API keys of this gateway: those of its settings, and those made with `millstream keys create`."""

import asyncio
from time import monotonic

import structlog

from millstream.common.broker.accounts.keyring import ApiKey, count_keys, digest, find_key
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.gateway.access.static_keys import StaticKeys

FRESH = 1.0  # seconds a key's record is used again: for so long a revoked key may still be let in
MOST = 10_000  # records kept; beyond them all are looked up anew

log = structlog.stdlib.get_logger(part="keyring")


class Keyring:
    """Implements `gateway.access.authentication.Keys`. Keys are demanded when the settings have any or say so, and from
    the moment on when the first one is made."""

    def __init__(self, broker: Broker, static: StaticKeys, *, demand: bool) -> None:
        self._broker = broker
        self._static = static
        self._demand = demand or bool(static.records)
        self._any: bool | None = None  # None: Redis was not asked yet
        self._found: dict[str, tuple[float, ApiKey | None]] = {}

    async def demanded(self) -> bool:
        if self._any is None and not self._demand:
            await self.look()
        return self._demand or bool(self._any)

    async def owner(self, key: str) -> ApiKey | None:
        known = await self._static.owner(key)
        return known if known is not None else await self._look_up(digest(key))

    async def _look_up(self, fingerprint: str) -> ApiKey | None:
        asked, record = self._found.get(fingerprint, (0.0, None))
        if monotonic() - asked < FRESH and asked:
            return record
        record = await find_key(self._broker, fingerprint)
        if len(self._found) >= MOST:
            self._found.clear()
        self._found[fingerprint] = (monotonic(), record)
        return record

    async def look(self) -> None:
        """Learns whether there are keys. Once there were any, they stay demanded: revoking the last one opens nothing.
        Raises `RedisAway`."""
        self._any = self._any or await count_keys(self._broker) > 0

    async def watch(self) -> None:
        """Looks now and then; ends by cancellation only."""
        while True:
            try:
                await self.look()
            except RedisAway as error:
                log.debug("keys_unknown", error=error.message)
            await asyncio.sleep(FRESH)
