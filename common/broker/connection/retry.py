"""Waiting for a Redis that restarts or fails over, for as long as the caller's client would."""

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from millstream.common.broker.connection.broker import RedisAway, RedisFull
from millstream.common.process.backoff import Backoff

Found = TypeVar("Found")


async def retry_while_away(call: Callable[[], Awaitable[Found]], seconds: float) -> Found:
    """Returns what the call returns; while Redis is away it is made again, for so long. Raises what it raises,
    `RedisFull` at once."""
    backoff, give_up = Backoff(), monotonic() + seconds
    while True:
        try:
            return await call()
        except RedisAway as error:
            if isinstance(error, RedisFull) or monotonic() > give_up:
                raise
            await backoff.sleep()
