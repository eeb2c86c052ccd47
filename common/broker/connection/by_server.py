"""Looking at many models whose queues lie in several servers: one that is away costs its own models only."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.job import ModelName

Seen = TypeVar("Seen")


def grouped(broker: Broker, models: Iterable[ModelName]) -> Mapping[Broker, list[ModelName]]:
    """Returns the models by the server that has their queues."""
    found: dict[Broker, list[ModelName]] = defaultdict(list)
    for model in models:
        found[broker.of(model)].append(model)
    return found


async def look_at_each(
    broker: Broker, models: Iterable[ModelName], look: Callable[[ModelName], Awaitable[Seen]]
) -> tuple[dict[ModelName, Seen], dict[ModelName, RedisAway]]:
    """Looks at the models, at all servers at once. Returns what was seen, and why the others could not be looked at;
    where a server does not answer, it is not asked for its next model. Raises `RedisAway` if home does not answer."""
    seen: dict[ModelName, Seen] = {}
    away: dict[ModelName, RedisAway] = {}

    async def look_at(server: Broker, its_own: list[ModelName]) -> None:
        for at, model in enumerate(its_own):
            try:
                seen[model] = await look(model)
            except RedisAway as error:
                if server is broker:
                    raise
                away.update(dict.fromkeys(its_own[at:], error))
                return

    await asyncio.gather(*(look_at(server, its_own) for server, its_own in grouped(broker, models).items()))
    return seen, away
