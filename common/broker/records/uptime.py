"""Records that a server which has just started does not know: those who have them may be about to write them again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.scripts.job_calls import GRACE_MS
from millstream.common.broker.scripts.script import NoArguments, Script

LOOK_EVERY = 0.1  # seconds
UPTIME = Script("record/uptime", NoArguments)

Sought = TypeVar("Sought")


async def uptime(broker: Broker, prefix: str) -> float:
    """Returns for how many seconds the server has run that has the keys which begin so. Raises `RedisAway`."""
    return int(await broker.run_on(UPTIME, prefix, NoArguments())) / 1000


async def sought(broker: Broker, prefix: str, look: Callable[[], Awaitable[Sought | None]]) -> Sought | None:
    """Looks, and where nothing is found again and again until the server's restart grace is over. Raises
    `RedisAway`."""
    while True:
        young = None
        if (found := await look()) is not None or (young := await uptime(broker, prefix)) >= GRACE_MS / 1000:
            return found
        await asyncio.sleep(min(LOOK_EVERY, max(0.0, GRACE_MS / 1000 - young)))
