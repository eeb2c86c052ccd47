# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The queue's books after a run of `millstream chaos`: nobody holds or waits, and nothing stays that should go."""

import asyncio
import re
from collections.abc import Awaitable
from time import monotonic
from typing import Any, cast

from millstream.bench.chaos.site import MODEL
from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.job import SETTLED

# Keys without a time to live, by docs/protocol.md: bounded, or there as long as a worker, a batch or arq's queue is.
LASTING = [
    rf"ms:\{{{MODEL}\}}:(server|dead|gateways|policy|load|leases|tally)",
    r"ms:(models|names|keys|batches|responses)",
    r"arq:.*",
]
PATIENCE = 20.0  # seconds
EMPTY = ("waiting", "deadlines", "resume", "owed")  # with nobody waiting and nothing under way these are not there


async def wrong_books(broker: Broker) -> list[str]:
    """Returns what is wrong, in words, when nothing is under way any more."""
    found: list[str] = []
    async with redis_errors():
        redis = cast(Any, broker.redis)
        names = [str(name) async for name in redis.scan_iter("*", count=1000)]
        for name in names:
            if await redis.pttl(name) == -1 and not any(re.fullmatch(lasting, name) for lasting in LASTING):
                found.append(f"the key {name} would stay for ever")
        prefix = keys.prefix(MODEL)
        found += [f"{prefix}{name} is still there" for name in EMPTY if prefix + name in names]
        streams = [name for name in names if name.startswith((f"{prefix}inbox:", f"{prefix}backlog:"))]
        found += [f"{name} still holds jobs" for name in streams if await redis.xlen(name)]
        loads = await cast(Awaitable[list[tuple[str, float]]], redis.zrange(keys.load(MODEL), 0, -1, withscores=True))
        found += [f"the worker {worker} has a load of {load:g}" for worker, load in loads if load]
        for name in names:
            if not name.startswith(f"{prefix}job:") or (state := await redis.hget(name, "state")) in SETTLED:
                continue
            if state is not None or await redis.exists(name):  # else its retention ended since the keys were listed
                found.append(f"{name} is {state}")
    return found


async def settled_books(broker: Broker) -> list[str]:
    """Returns what is wrong in the books: nothing once they are right, or what still is after a while, because the last
    upkeep may just be at work."""
    until = monotonic() + PATIENCE
    while True:
        found = await wrong_books(broker)
        if not found or monotonic() > until:
            return found
        await asyncio.sleep(0.5)
