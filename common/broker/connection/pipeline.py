"""All calls of a process to one server, over one connection: those made in the same moment share a write, a read and
the server's attention, and a call costs neither a task nor a timer of its own."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from redis import exceptions
from redis.asyncio.connection import AbstractConnection

from millstream.common.broker.connection.protocol import RedisConnection

MOVE_ON = (exceptions.ConnectionError, exceptions.ReadOnlyError)  # replies of a server that loads, or serves no more


class Calls(RedisConnection):
    """Replies come in the order of the commands. One that nobody waits for any more is passed over."""

    def __init__(
        self, connection: AbstractConnection, transport: asyncio.WriteTransport, patience: float | None
    ) -> None:
        self._waiting: deque[asyncio.Future[Any]] = deque()
        super().__init__(connection, transport, patience)

    def ask(self, command: tuple[Any, ...]) -> asyncio.Future[Any]:
        if not self.open:
            raise exceptions.ConnectionError("the connection is lost")
        self.send(command)
        if not self._waiting:
            self.since = self._loop.time()
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(answer)
        return answer

    def heard(self, reply: Any) -> None:
        if not self._waiting:
            self.end(exceptions.ConnectionError(f"a reply to nothing: {reply}"))
            return
        answer = self._waiting.popleft()
        if isinstance(reply, Exception):
            if not answer.done():
                answer.set_exception(reply)
            if isinstance(reply, MOVE_ON):
                self.end(reply)
        elif not answer.done():
            answer.set_result(reply)

    def silent(self) -> None:
        if self._waiting:
            self.end(exceptions.TimeoutError(f"no answer for {self._patience:g} s"))

    def lost(self, why: Exception) -> None:
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(why)


class ScriptPipeline:
    """Opened by the first call, and again by the first one after a loss. Nothing is sent twice."""

    def __init__(self, connect: Callable[[], AbstractConnection]) -> None:
        self._connect = connect
        self._calls: Calls | None = None
        self._opening = asyncio.Lock()
        self._failed = 0  # tries to open it
        self._failure = ""

    async def call(self, key: str, *command: Any) -> Any:
        """Returns the reply to a command on `key`, as the server sent it. Raises what redis-py raises; `TimeoutError`
        and `ConnectionError` leave open whether the server has done it."""
        calls = self._calls
        if calls is None or not calls.open:
            calls = await self._open()
        return await calls.ask(command)

    async def aclose(self) -> None:
        if self._calls:
            await self._calls.aclose()

    async def _open(self) -> Calls:
        """Opens the connection, one try for all who wait: when it fails it has failed for them too."""
        failed = self._failed
        async with self._opening:
            if self._calls and self._calls.open:
                return self._calls
            if self._failed > failed:
                raise exceptions.ConnectionError(self._failure)
            try:
                connection = self._connect()
                self._calls = await Calls.over(connection, connection.socket_timeout)
            except Exception as failure:
                self._failed, self._failure = self._failed + 1, str(failure)
                raise
            return self._calls
