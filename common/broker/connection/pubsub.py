# redis-py leaves its connections partly untyped.
# pyright: reportUnknownMemberType=false
"""Messages of one pub/sub channel, read as they come."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

from redis import exceptions
from redis.asyncio.connection import AbstractConnection

from millstream.common.broker.connection.broker import open_listener, redis_errors
from millstream.common.broker.connection.protocol import RedisConnection

PING_EVERY = 2.0  # seconds of silence until the subscription is pinged through its own channel


class Messages(RedisConnection):
    """The messages of a subscribed connection. A dead one raises nothing by itself, so silence is answered by a ping
    through the channel, and no pong within another `PING_EVERY` counts as lost."""

    def __init__(
        self, connection: AbstractConnection, transport: asyncio.WriteTransport, patience: float | None
    ) -> None:
        self._arrived: list[bytes | None] = []
        self._news = asyncio.Event()
        self._pinged = False
        super().__init__(connection, transport, patience)

    async def next(self) -> list[bytes | None]:
        """Returns all that arrived meanwhile, at least one message; None says that the subscription stands. Raises what
        ended it."""
        while not self._arrived:
            if self.why:
                raise self.why
            self._news.clear()
            await self._news.wait()
        arrived, self._arrived = self._arrived, []
        return arrived

    def heard(self, reply: Any) -> None:
        self._pinged = False
        match reply:
            case [b"message", _, bytes(data)]:
                self._arrived.append(data)
            case [b"subscribe", *_]:
                self._arrived.append(None)
            case Exception():
                self.end(reply)
            case _:  # a pong
                return
        self._news.set()

    def silent(self) -> None:
        if self._pinged:
            self.end(exceptions.ConnectionError("the channel went silent"))
        else:
            self.send(("PING",))
            self._pinged = True

    def lost(self, why: Exception) -> None:
        self._news.set()


@asynccontextmanager
async def subscribed(url: str, channel: str) -> AsyncGenerator[Messages]:
    """Opens a subscription. Raises `RedisAway` when the connection is lost or silent: subscribe again, and do not count
    on what was published meanwhile."""
    async with redis_errors(), open_listener(url) as client:
        connection = cast(AbstractConnection, client.connection_pool.make_connection())
        messages = await Messages.over(connection, PING_EVERY)
        try:
            messages.send(("SUBSCRIBE", channel))
            yield messages
        finally:
            await messages.aclose()
