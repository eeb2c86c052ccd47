"""A TCP proxy that does what networks do: pass, fall silent, reset, lose a reply, delay, leave connections half open.

async with Proxy("127.0.0.1", 6379) as proxy:
    proxy.silent()   # connections stay open, nothing passes
    proxy.passing()
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass(eq=False)
class Link:
    """One client's connection, and its other half to the server."""

    client: StreamWriter
    server: StreamWriter
    cut: bool = False  # the next reply is dropped, and the connection with it
    half_open: bool = False  # nothing passes any more, and neither end hears of the other's end


@dataclass
class Proxy:
    """Listens on a free port of 127.0.0.1 and passes everything on to `host:port`."""

    host: str
    port: int
    delay: float = 0.0  # seconds each reply takes longer
    dropped: int = 0  # replies lost so far
    lost: asyncio.Event = field(default_factory=asyncio.Event)  # the reply to be lost is
    _open: asyncio.Event = field(default_factory=asyncio.Event)  # cleared: silence
    _drop_after: bytes = b""  # lose the reply to the next request that holds this
    links: dict[Link, asyncio.Task[None]] = field(default_factory=dict[Link, asyncio.Task[None]])
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._open.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.passing()
        self.reset()
        await asyncio.gather(*self.links.values(), return_exceptions=True)

    @property
    def address(self) -> str:
        """Returns where it listens, as `host:port`."""
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def url(self) -> str:
        """Returns the same as a URL of Redis."""
        return f"redis://{self.address}/0"

    def silent(self) -> None:
        """Lets nothing pass from now on, and tells nobody. New connections are accepted, and as silent."""
        self._open.clear()

    def passing(self) -> None:
        """Everything held back goes on its way."""
        self._open.set()

    def reset(self) -> None:
        """Cuts every connection."""
        for link in list(self.links):
            link.client.transport.abort()
            link.server.transport.abort()

    def half_open(self) -> int:
        """Leaves every connection that stands half open for good: what is sent is lost, and nobody is told. New ones
        pass. Returns how many they were."""
        for link in self.links:
            link.half_open = True
        return len(self.links)

    def lose_reply_to(self, word: bytes) -> None:
        """The next request with that word reaches the server; its reply is lost and the connection with it."""
        self._drop_after = word
        self.lost.clear()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, to_server)
        task = asyncio.current_task()
        assert task is not None
        self.links[link] = task
        try:
            await asyncio.gather(self._up(link, reader), self._down(link, from_server))
        except OSError:
            pass  # cut
        finally:
            del self.links[link]
            writer.transport.abort()
            to_server.transport.abort()

    async def _up(self, link: Link, source: StreamReader) -> None:
        while data := await source.read(1 << 16):
            await self._open.wait()
            if link.half_open:
                continue
            if self._drop_after and self._drop_after in data:
                self._drop_after, link.cut = b"", True
            link.server.write(data)
            await link.server.drain()
        if not link.half_open:
            link.server.close()

    async def _down(self, link: Link, source: StreamReader) -> None:
        while data := await source.read(1 << 16):
            await self._open.wait()
            if link.half_open:
                continue
            if self.delay:
                await asyncio.sleep(self.delay)
            if link.cut:
                self.dropped += 1
                self.lost.set()
                link.client.transport.abort()
                raise ConnectionResetError("the reply is lost")
            link.client.write(data)
            await link.client.drain()
        if not link.half_open:
            link.client.close()
