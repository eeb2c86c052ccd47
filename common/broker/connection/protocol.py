# redis-py and hiredis leave their replies untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateUsage=false
"""One connection to Redis, read by the event loop's own callback.

redis-py opens and greets it: address, TLS, login, database, a Sentinel's master. From then on its bytes are ours: its
own way of sending and reading is 90 us of tasks, timers and locks per command. What is taken over is private there
(`_reader`, `_writer`, `_parser`, `_close`), so its version is bounded from above.
"""

import asyncio
from typing import Any, Self, cast

import hiredis
from redis import exceptions
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio.connection import AbstractConnection

SECOND_LOOK = 0.05  # seconds
UNREADABLE = (exceptions.InvalidResponse, UnicodeDecodeError)


class RedisConnection(asyncio.Protocol):
    """Commands out, replies in. Subclasses say what a reply means, and what follows from `patience` seconds without
    one. A wire that is lost stays lost."""

    @classmethod
    async def over(cls, connection: AbstractConnection, patience: float | None) -> Self:
        """Opens a connection that is nobody else's, and takes it over. Raises what redis-py raises."""
        await connection.connect()
        reader, writer = connection._reader, connection._writer
        if reader is None or writer is None or reader.at_eof() or writer.transport.is_closing():
            connection._close()
            raise exceptions.ConnectionError("the server left as soon as it had greeted")
        return cls(connection, writer.transport, patience)

    def __init__(
        self, connection: AbstractConnection, transport: asyncio.WriteTransport, patience: float | None
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._gone = asyncio.Event()
        self._replies: hiredis.Reader = cast(Any, connection._parser)._reader  # decodes, and names errors, as redis-py
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self.since = self._loop.time()  # when something was last heard, or asked for after that
        self._doubted = 0.0  # when the silence first seemed too long
        self.why: Exception | None = None  # it ended
        transport.set_protocol(self)
        self._look()

    @property
    def open(self) -> bool:
        return not self._transport.is_closing()

    def send(self, command: tuple[Any, ...]) -> None:
        """Raises `DataError` for what has no form in Redis (None, bool), `UnicodeEncodeError` for half a character."""
        try:
            packed = cast(bytes, hiredis.pack_command(command))
        except TypeError:  # redis-py knows some types more, and the better words for the others
            packed = b"".join(self._connection.pack_command(*command))
        self._transport.write(packed)

    def end(self, why: Exception) -> None:
        """Gives the connection up without a word: nobody may be there to hear it."""
        self.why = self.why or why
        self._transport.abort()

    async def aclose(self) -> None:
        self.end(exceptions.ConnectionError("closed"))
        await self._gone.wait()

    # -------------------------------------------------------------------------------------------- what a subclass says

    def heard(self, reply: Any) -> None:
        """Takes a reply, or the error that came as one."""
        raise NotImplementedError

    def silent(self) -> None:
        """Ends the connection when nothing was heard since `since`."""
        raise NotImplementedError

    def lost(self, why: Exception) -> None:
        """Notes that the connection is no more."""
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------- what the event loop says

    def data_received(self, data: bytes) -> None:
        self.since = self._loop.time()
        try:
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not NOT_ENOUGH_DATA:
                self.heard(reply)
        except UNREADABLE as error:
            self.heard(error)
            self.end(exceptions.ConnectionError(f"a reply could not be read: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._connection._close()
        self._gone.set()
        self.why = self.why or exceptions.ConnectionError(f"connection lost: {exc or 'closed by the server'}")
        self.lost(self.why)

    def _look(self) -> None:
        """Looks for silence, with one timer for all that is sent and heard: it looks again when the silence could next
        have lasted too long."""
        if self._patience is None:
            return
        now, ends = self._loop.time(), self.since + self._patience
        if now < ends:
            self._timer = self._loop.call_at(ends, self._look)
        elif self._doubted < self.since:
            self._doubted = now  # we may have been busy ourselves: what lies in the socket is read before the next look
            self._timer = self._loop.call_later(SECOND_LOOK, self._look)
        else:
            self.since = now
            self.silent()
            self._timer = self._loop.call_later(self._patience, self._look)
