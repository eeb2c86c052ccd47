# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""API keys: who owns them and what they may do. Only a key's hash is kept; the key itself is shown once, when made."""

import hashlib
import secrets
import time
from collections.abc import Awaitable
from typing import cast

import msgspec

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.errors import NotFound
from millstream.common.job import TIERS, ModelName, Tier

UNCOUNTED = -1
STATIC = "static_"  # so begin the ids of keys that are in a gateway's settings and have limits


class KeyLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """The limits of a key; 0: no limit. Tokens are those of prompts and answers together."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent: int = 0  # requests at once, waiting ones included; UNCOUNTED: they do not even count as such
    tokens_per_day: int = 0  # UTC
    tokens_per_month: int = 0


class ApiKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key as it is stored, without the key. `ceiling` is the highest tier it is served in; no `models`: all."""

    id: str
    tenant: str
    ending: str = ""  # its last four characters, to recognise it by
    weight: float = 1.0
    ceiling: Tier = "priority"
    models: tuple[str, ...] = ()
    limits: KeyLimits = KeyLimits()
    created: int = 0  # seconds since the epoch

    @property
    def static(self) -> bool:
        """Tells whether it is in a gateway's settings, not in Redis; so is the right to come without a key."""
        return not self.id or self.id.startswith(STATIC)

    def may_use(self, model: ModelName) -> bool:
        return not self.models or model in self.models

    def tier(self, asked: Tier) -> Tier:
        """Returns the tier really served: what was asked for, but not above the ceiling."""
        return TIERS[max(TIERS.index(asked), TIERS.index(self.ceiling))]


encode_key = msgspec.json.Encoder().encode
decode_key = msgspec.json.Decoder(ApiKey).decode


def digest(key: str) -> str:
    """Returns a key's fingerprint. Keys are long and random, so a plain hash cannot be turned back by guessing."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key() -> tuple[str, ApiKey]:
    """Returns a fresh key and its record, to be changed before it is stored: a tenant of its own, so nobody's
    administrator."""
    key, identity = f"sk-ms-{secrets.token_urlsafe(32)}", f"key_{secrets.token_hex(6)}"
    return key, ApiKey(identity, tenant=identity, ending=key[-4:], created=int(time.time()))


async def store_key(broker: Broker, fingerprint: str, record: ApiKey) -> None:
    """Adds a key or changes its record; gateways know of it within a second."""
    async with redis_errors():
        await cast(Awaitable[int], broker.redis.hset(keys.API_KEYS, fingerprint, encode_key(record).decode()))


async def find_key(broker: Broker, fingerprint: str) -> ApiKey | None:
    """Returns the record of a key; None if it was never made, or is revoked."""
    async with redis_errors():
        found = await cast(Awaitable[str | None], broker.redis.hget(keys.API_KEYS, fingerprint))
    return decode_key(found) if found else None


async def count_keys(broker: Broker) -> int:
    async with redis_errors():
        return await cast(Awaitable[int], broker.redis.hlen(keys.API_KEYS))


async def list_keys(broker: Broker) -> dict[str, ApiKey]:
    """Returns all keys by their fingerprints, the oldest first."""
    async with redis_errors():
        found = await cast(Awaitable[dict[str, str]], broker.redis.hgetall(keys.API_KEYS))
    records = {fingerprint: decode_key(text) for fingerprint, text in found.items()}
    return dict(sorted(records.items(), key=lambda pair: (pair[1].created, pair[1].id)))


async def key_of(broker: Broker, identity: str) -> tuple[str, ApiKey]:
    """Returns a key's fingerprint and record by its id. Raises `NotFound`."""
    for fingerprint, record in (await list_keys(broker)).items():
        if record.id == identity:
            return fingerprint, record
    raise NotFound(f"There is no API key '{identity}'. `millstream keys list` shows them.", param="id")


async def revoke_key(broker: Broker, identity: str) -> ApiKey:
    """Revokes the key: it is refused from now on (within a second). Raises `NotFound`."""
    fingerprint, record = await key_of(broker, identity)
    async with redis_errors():
        await cast(Awaitable[int], broker.redis.hdel(keys.API_KEYS, fingerprint))
    return record
