"""A server that hangs up while a connection greets it: uvloop raises RuntimeError then, which redis-py passes on."""

import asyncio

import pytest
from redis.asyncio import Redis

from millstream.common.broker.connection.broker import Broker, RedisAway, redis_errors
from millstream.common.process import loop


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def test_a_server_that_hangs_up_at_once_is_away() -> None:
    async def knock() -> None:
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, Broker(f"redis://127.0.0.1:{port}/0") as broker:
            for _ in range(200):
                with pytest.raises(RedisAway):
                    await broker.ping()

    loop.run(knock())


def test_a_closed_uvloop_handle_is_a_redis_that_is_away() -> None:
    async def write_to_the_dead() -> None:
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server, redis_errors():
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.transport.abort()
            await asyncio.sleep(0.05)
            writer.writelines([b"PING\r\n"])

    with pytest.raises(RedisAway):
        loop.run(write_to_the_dead())


async def test_a_connection_that_breaks_while_keys_are_watched_is_redis_away() -> None:
    """The connection breaks as when arq is between looking at a job and taking it."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"+OK\r\n")  # to WATCH
        await reader.read(100)
        writer.close()

    server = await asyncio.start_server(leave, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Redis.from_url(f"redis://127.0.0.1:{port}", protocol=2, lib_name=None, lib_version=None)
    with pytest.raises(RedisAway, match="watching"):
        async with server, client, redis_errors(), client.pipeline() as pipe:
            await pipe.watch("key")
            await pipe.exists("key")
