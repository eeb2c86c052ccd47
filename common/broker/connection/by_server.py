"""Looking at many models whose queues lie in several servers: one that is away costs its own models only."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.connection.url import address
from millstream.common.job import ModelName

PATIENCE = 2.0  # seconds that a look at several servers waits for one of them: whoever probes a gateway waits for 5
LET_BE = 5.0  # seconds in which one that was silent for so long is not asked again
Seen = TypeVar("Seen")


async def ask(broker: Broker, server: Broker, question: Callable[[], Awaitable[Seen]]) -> Seen:
    """Returns the answer of one of the servers. Raises `RedisAway`, for one that is not home also when it is silent for
    `PATIENCE`, and at once for `LET_BE` after that: a server that takes connections and never answers must not hold up
    those who look at all."""
    if server is broker:
        return await question()
    clock = asyncio.get_running_loop().time
    if clock() < server.silent_until:
        raise _silent(server)
    try:
        async with asyncio.timeout(PATIENCE):
            return await question()
    except TimeoutError as error:
        server.silent_until = clock() + LET_BE
        raise _silent(server) from error


def _silent(server: Broker) -> RedisAway:
    return RedisAway(f"The queue (Redis) at {address(server.url)} does not answer.", retry_after=LET_BE)


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
                seen[model] = await ask(broker, server, partial(look, model))
            except RedisAway as error:
                if server is broker:
                    raise
                away.update(dict.fromkeys(its_own[at:], error))
                return

    await asyncio.gather(*(look_at(server, its_own) for server, its_own in grouped(broker, models).items()))
    return seen, away
