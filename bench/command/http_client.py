"""One HTTP connection as cheap as Python allows, so that the load generator does not measure itself.

It does not parse events: it counts them where they begin, and looks into the text only until the first token and at
the end, for the usage. That is a few microseconds per event, against more than fifty for a general client.
"""

import asyncio
import re
import ssl
from dataclasses import dataclass
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

from millstream.bench.command.statistics import AnswerTimes

EVENT = b"\ndata: "
DONE = b"data: [DONE]"
LAST_CHUNK = b"\r\n0\r\n\r\n"
FIRST_TEXT = re.compile(rb'"(?:content|reasoning_content|text)":\s?"[^"]')
USAGE = re.compile(rb'"completion_tokens":\s?(\d+)')
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


@dataclass(frozen=True, slots=True)
class Target:
    """The address to which requests go."""

    host: str
    port: int
    path: str
    tls: bool
    api_key: str = ""

    @classmethod
    def of(cls, base_url: str, api_key: str = "") -> "Target":
        """Reads an OpenAI base URL such as `http://127.0.0.1:8000/v1`."""
        parts = urlsplit(base_url)
        tls = parts.scheme == "https"
        return cls(
            parts.hostname or "127.0.0.1", parts.port or (443 if tls else 80), parts.path.rstrip("/"), tls, api_key
        )

    def request(self, path: str, body: bytes) -> bytes:
        """Returns a POST as bytes."""
        key = f"authorization: Bearer {self.api_key}\r\n" if self.api_key else ""
        head = (
            f"POST {self.path}{path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n{key}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(slots=True)
class _Reading:
    """One answer being read."""

    answer: AnswerTimes
    done: asyncio.Future[None]
    head: bytes = b""
    body: bool = False  # the head is complete
    left: int | None = None  # bytes of the body still to come, if the head told
    carried: bytes = b"\n"  # of the read before: what an event's beginning may lie in
    before: bytes = b"\r\n"  # the read before; of a body of known length all of it


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reading: _Reading | None = None
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._reading is not None:
            reading = self._reading
            if reading.body and reading.left is None and exc is None:
                self._finish(reading)
            else:
                self._fail(reading, "connection closed")

    async def ask(self, request: bytes, timeout: float) -> AnswerTimes:
        """Sends the request and reads the answer to its end; failures are in the answer."""
        assert self._transport is not None
        reading = _Reading(AnswerTimes(perf_counter()), asyncio.get_running_loop().create_future())
        self._reading = reading
        self._transport.write(request)
        try:
            async with asyncio.timeout(timeout):
                await reading.done
        except TimeoutError:
            reading.answer.error = "timeout"
            self.close()
        return reading.answer

    def close(self) -> None:
        """Leaves; an answer being read stays incomplete."""
        self.usable = False
        self._reading = None
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        reading = self._reading
        if reading is None:
            return
        if not reading.body:
            reading.head += data
            at = reading.head.find(b"\r\n\r\n")
            if at < 0:
                return
            data = reading.head[at + 4 :]
            self._read_head(reading, reading.head[:at])
        if data:
            self._read_body(reading, data)

    def _read_head(self, reading: _Reading, head: bytes) -> None:
        reading.body = True
        status, length = STATUS.match(head), LENGTH.search(head)
        reading.answer.status = int(status[1]) if status else 0
        reading.left = int(length[1]) if length else None

    def _read_body(self, reading: _Reading, data: bytes) -> None:
        done = DONE in data
        if reading.answer.first is None:
            if FIRST_TEXT.search(data):
                reading.answer.begin(perf_counter())
        elif not done and (events := (reading.carried + data).count(EVENT)):
            reading.answer.note(perf_counter(), events)
        reading.carried = data[1 - len(EVENT) :]
        if reading.left is not None:
            reading.left -= len(data)
            reading.before += data
            ended = reading.left <= 0
        else:
            ended = data[-5:] == LAST_CHUNK[-5:] and (reading.before + data).endswith(LAST_CHUNK)
        if (done or ended) and (usage := USAGE.search(reading.before + data)):
            reading.answer.tokens = int(usage[1])
        if reading.left is None:
            reading.before = data
        if ended:
            self._finish(reading)

    def _finish(self, reading: _Reading) -> None:
        self._reading = None
        answer = reading.answer
        answer.end = perf_counter()
        if answer.status != 200:
            answer.error = f"status {answer.status}"
        if not reading.done.done():
            reading.done.set_result(None)

    def _fail(self, reading: _Reading, why: str) -> None:
        self._reading = None
        reading.answer.error = why
        if not reading.done.done():
            reading.done.set_result(None)


class Connections:
    """Idle connections to one server, used again."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: list[Connection] = []

    async def ask(self, request: bytes, timeout: float) -> AnswerTimes:
        """Asks on an idle connection, or a new one."""
        try:
            connection = await self._take(timeout)
        except (OSError, TimeoutError) as error:
            return AnswerTimes(perf_counter(), error=f"no connection: {error}")
        answer = await connection.ask(request, timeout)
        if connection.usable:
            self._idle.append(connection)
        return answer

    async def _take(self, timeout: float) -> Connection:
        while self._idle:
            if (connection := self._idle.pop()).usable:
                return connection
        target = self._target
        secure = ssl.create_default_context() if target.tls else None
        async with asyncio.timeout(timeout):
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(Connection, target.host, target.port, ssl=secure)
        return connection

    def close(self) -> None:
        """Closes all that are idle."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
