# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Parts of a cluster whose maps of models to servers differ: a gateway leaves a mark where it looks for a model, and a
worker that finds none where it serves says so."""

from collections.abc import Awaitable
from typing import Any, cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.connection.url import without_secrets
from millstream.common.job import ModelName

MARK_SECONDS = 60  # how long a mark counts that is not renewed
HERE = "here"  # the mark at the server where a model is looked for; at home it may be an address instead
REMEDY = "Give all processes the same MILLSTREAM_REDIS_URL and MILLSTREAM_MODEL_REDIS."


async def mark(broker: Broker, model: ModelName) -> str:
    """Says that a gateway looks for the model where this process's map says: at home its address, then at that server
    itself. Returns a sentence where another gateway looks elsewhere, else nothing. Raises `RedisAway`."""
    server, key = broker.of(model), keys.looked_for(model)
    address = HERE if server is broker else without_secrets(server.url)
    async with redis_errors():
        before = await cast(Awaitable[str | None], broker.redis.get(key))
        await cast(Awaitable[Any], broker.redis.set(key, address, ex=MARK_SECONDS))
        if server is not broker:
            await cast(Awaitable[Any], server.redis.set(key, HERE, ex=MARK_SECONDS))
    if before in (None, address):
        return ""
    return f"Another gateway looks for model {model} at {_shown(before)}, this one at {_shown(address)}. {REMEDY}"


async def astray(broker: Broker, model: ModelName) -> str:
    """Returns the sentence for a model whose queue lies at one server by this process's map, while the gateways look at
    another; empty if all is well, or no gateway has run of late. Raises `RedisAway`."""
    server, key = broker.of(model), keys.looked_for(model)
    async with redis_errors():
        there = await cast(Awaitable[str | None], broker.redis.get(key))
        here = there if server is broker else await cast(Awaitable[str | None], server.redis.get(key))
    if there is None or here == HERE:
        return ""
    own = _shown(HERE if server is broker else without_secrets(server.url))
    return f"Model {model} is served at {own}, and the gateways look for it at {_shown(there)}. {REMEDY}"


async def tell_astray(broker: Broker, model: ModelName, sentence: str) -> None:
    """Leaves a worker's sentence at home, for whoever asks what is wrong. Raises `RedisAway`."""
    async with redis_errors():
        await cast(Awaitable[Any], broker.redis.set(keys.astray(model), sentence, ex=MARK_SECONDS))


async def told_astray(broker: Broker, model: ModelName) -> str:
    """Returns what a worker said within the last minute, empty if none did. Raises `RedisAway`."""
    async with redis_errors():
        return await cast(Awaitable[str | None], broker.redis.get(keys.astray(model))) or ""


def _shown(address: str) -> str:
    return "home (MILLSTREAM_REDIS_URL)" if address == HERE else address
