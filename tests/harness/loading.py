"""A Redis that reads its file for ever."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def loading_server(port: int = 0) -> AsyncIterator[str]:
    """It greets and then refuses everything, as a real one does while it loads: its URL."""
    server = await asyncio.start_server(_refuse, "127.0.0.1", port)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


async def _refuse(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        while line := await reader.readline():
            words = [(await reader.readline(), await reader.readline())[1] for _ in range(int(line[1:]))]
            writer.write(b"+OK\r\n" if words[0] == b"CLIENT\r\n" else b"-LOADING it reads its file\r\n")
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.transport.abort()
