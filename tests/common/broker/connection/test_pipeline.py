"""Many calls over one connection: each gets its own reply, whatever happens to the others or to the connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis import exceptions
from redis.asyncio import Connection, Redis

from millstream.bench.chaos.proxy import Proxy
from millstream.common.broker import workers
from millstream.common.broker.connection.broker import Broker, RedisAway, open_client, open_pipeline, redis_errors
from millstream.common.broker.connection.cluster import ClusterPipeline
from millstream.common.broker.connection.pipeline import ScriptPipeline
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.job import ModelName, WorkerId
from millstream.common.process import loop
from tests.harness.support import wait_until

MODEL, WORKER = ModelName("tiny"), WorkerId("w1")
AnyLine = ScriptPipeline | ClusterPipeline


@asynccontextmanager
async def opened(url: str, timeout: float = 5.0) -> AsyncIterator[AnyLine]:
    client = open_client(url, timeout=timeout)
    line = open_pipeline(client)
    try:
        yield line
    finally:
        await line.aclose()
        await client.aclose()


@pytest_asyncio.fixture
async def line(redis_url: str) -> AsyncIterator[AnyLine]:
    async with opened(redis_url) as line:
        yield line


@pytest_asyncio.fixture
async def other(redis_url: str) -> AsyncIterator[Redis]:
    """Another client of the same server, as redis-py is."""
    async with Redis.from_url(redis_url) as client:
        yield client


@asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **options: Any
) -> AsyncIterator[int]:
    """A server of the test's own; its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets as redis-py expects of a server: it tells it the library's name and version."""
    await reader.readuntil(b"LIB-VER")
    writer.write(b"+OK\r\n+OK\r\n")


async def echo(line: AnyLine, text: str) -> str:
    return await line.call("k", "ECHO", text)


# ----------------------------------------------------------------------------------------------------- side by side


async def test_a_thousand_calls_at_once_take_one_connection_and_keep_their_replies_apart(
    line: AnyLine, other: Redis
) -> None:
    texts = [f"call {n}" for n in range(1000)]
    assert await asyncio.gather(*(echo(line, text) for text in texts)) == texts
    clients = await other.client_list()
    assert len([client for client in clients if client["cmd"] == "echo"]) == 1


async def test_an_error_is_its_own_callers(line: AnyLine) -> None:
    answers = await asyncio.gather(echo(line, "a"), line.call("k", "LPUSH"), echo(line, "b"), return_exceptions=True)
    assert isinstance(answers[1], exceptions.ResponseError)
    assert [answers[0], answers[2]] == ["a", "b"]


async def test_the_reply_to_a_cancelled_call_is_nobody_elses(line: AnyLine, other: Redis) -> None:
    waiting = asyncio.create_task(line.call("bell", "BLPOP", "bell", 0))
    await wait_until(lambda: blocked(other))
    second = asyncio.create_task(echo(line, "mine"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    await other.lpush("bell", "not yours")  # type: ignore[misc]
    assert await second == "mine"
    assert await other.llen("bell") == 0  # the server did it all the same  # type: ignore[misc]


async def blocked(other: Redis) -> bool:
    return (await other.info("clients"))["blocked_clients"] == 1


# ------------------------------------------------------------------------------------------------------------- losses


async def test_silence_ends_every_call_and_a_late_reply_is_nobodys(redis_url: str, valkey: EmbeddedValkey) -> None:
    async with Proxy("127.0.0.1", valkey.port) as proxy, opened(proxy.url, timeout=0.5) as line:
        await echo(line, "before")
        proxy.silent()
        answers = await asyncio.gather(echo(line, "a"), echo(line, "b"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [exceptions.TimeoutError] * 2
        proxy.passing()
        assert await echo(line, "c") == "c"


async def test_a_line_that_had_nothing_to_say_for_long_is_not_silent(redis_url: str) -> None:
    async with opened(redis_url, timeout=0.3) as line:
        for _ in range(3):
            assert await echo(line, "still there") == "still there"
            await asyncio.sleep(0.4)


async def test_a_reply_that_comes_in_pieces_is_waited_for_as_long_as_something_comes() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await reader.readuntil(b"ECHO")
        for piece in (b"$8\r\n", *(b"%d" % n for n in range(8)), b"\r\n"):
            writer.write(piece)
            await asyncio.sleep(0.1)
        await reader.read()

    async with serving(trickle) as port, opened(f"redis://127.0.0.1:{port}", timeout=0.6) as line:
        assert await echo(line, "numbers") == "01234567"


async def test_a_lost_reply_is_told_and_nothing_is_sent_again(
    valkey: EmbeddedValkey, redis_url: str, other: Redis
) -> None:
    async with Proxy("127.0.0.1", valkey.port) as proxy, opened(proxy.url) as line:
        await echo(line, "before")
        proxy.lose_reply_to(b"INCR")
        with pytest.raises(exceptions.ConnectionError):
            await line.call("count", "INCR", "count")
        assert proxy.dropped == 1
        assert await line.call("count", "GET", "count") == "1"


async def test_a_server_that_dies_in_mid_call_is_away_and_found_again_without_its_scripts(
    own_valkey: EmbeddedValkey,
) -> None:
    async with Broker(own_valkey.url) as broker:
        await workers.claim(broker, MODEL, WORKER, 1)
        async with opened(own_valkey.url) as line:
            waiting = asyncio.create_task(line.call("bell", "BLPOP", "bell", 0))
            async with Redis.from_url(own_valkey.url) as other:
                await wait_until(lambda: blocked(other))
            await own_valkey.kill()
            with pytest.raises(RedisAway):
                async with redis_errors():
                    await waiting
            with pytest.raises(RedisAway):
                await workers.claim(broker, MODEL, WORKER, 1)
            await own_valkey.restart()
            assert await echo(line, "again") == "again"
        assert (await workers.claim(broker, MODEL, WORKER, 1)).status == "grace"


async def test_a_master_that_became_a_replica_is_left(own_valkey: EmbeddedValkey) -> None:
    """Whoever is the master now, a new connection finds: with a Sentinel, at another place."""
    async with opened(own_valkey.url) as line, Redis.from_url(own_valkey.url) as other:
        first = await line.call("k", "CLIENT", "ID")
        await other.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(exceptions.ReadOnlyError):
            await line.call("k", "SET", "k", "v")
        assert await line.call("k", "CLIENT", "ID") != first


# ----------------------------------------------------------------------------------------------------------- opening


async def test_who_waits_for_a_connection_that_fails_does_not_try_one_after_the_other() -> None:
    tries = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        await reader.read(1)

    async with serving(hang_up) as port, opened(f"redis://127.0.0.1:{port}") as line:
        answers = await asyncio.gather(*(echo(line, "a") for _ in range(100)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {exceptions.ConnectionError}
        assert tries == 1


async def test_who_is_cancelled_while_it_opens_the_connection_leaves_that_to_the_next(
    valkey: EmbeddedValkey, redis_url: str
) -> None:
    async with Proxy("127.0.0.1", valkey.port) as proxy, opened(proxy.url) as line:
        proxy.silent()
        first, second = asyncio.create_task(echo(line, "first")), asyncio.create_task(echo(line, "second"))
        await wait_until(lambda: proxy.links)
        first.cancel()
        await asyncio.wait([first])
        proxy.passing()
        assert first.cancelled()
        assert await second == "second"


async def test_words_that_nobody_asked_for_end_the_connection() -> None:
    """A server that is full says such words."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await reader.readuntil(b"hello")
        writer.write(b"+welcome\r\n-ERR max number of clients reached\r\n")
        await reader.read()

    async with serving(refuse) as port, opened(f"redis://127.0.0.1:{port}") as line:
        assert await echo(line, "hello") == "welcome"
        assert await echo(line, "hello") == "welcome"  # over another connection


async def test_a_reply_that_cannot_be_read_is_its_callers_and_the_next_goes_on(line: AnyLine, other: Redis) -> None:
    await other.set("k", b"\xff")
    broken, second = await asyncio.gather(line.call("k", "GET", "k"), echo(line, "a"), return_exceptions=True)
    assert isinstance(broken, UnicodeDecodeError)
    assert isinstance(second, exceptions.ConnectionError)
    assert await echo(line, "b") == "b"


async def test_a_login_is_given(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey:
        async with Redis.from_url(valkey.url) as client:
            await client.execute_command("ACL", "SETUSER", "mill", "on", ">word", "+@all", "~*", "&*")
        async with opened(f"redis://mill:word@127.0.0.1:{valkey.port}/3") as line:
            assert await line.call("k", "ACL", "WHOAMI") == "mill"
            assert " db=3 " in await line.call("k", "CLIENT", "INFO")


@pytest.mark.parametrize("run", [loop.run, asyncio.run])
def test_it_speaks_tls(valkey: EmbeddedValkey, certificate: tuple[Path, Path], run: Callable[..., None]) -> None:
    made, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made, key)

    async def wrap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        below, above = await asyncio.open_connection("127.0.0.1", valkey.port)
        try:
            await asyncio.gather(pump(reader, above), pump(below, writer))
        finally:
            above.transport.abort()

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            target.write(data)
        target.transport.abort()

    async def talk() -> None:
        options = f"ssl_ca_certs={made}"
        async with serving(wrap, ssl=context) as port, opened(f"rediss://127.0.0.1:{port}?{options}") as line:
            texts = [f"{n}" * 10_000 for n in range(20)]
            assert await asyncio.gather(*(echo(line, text) for text in texts)) == texts

    run(talk())


# ------------------------------------------------------------------------------------------------------------ packing


@pytest.mark.parametrize("word", ["", "wörd", b"\x00\xff", 7, -(10**30), 1.5, 1e22, float("inf"), memoryview(b"ab")])
async def test_every_argument_is_written_as_redis_py_writes_it(line: AnyLine, other: Redis, word: Any) -> None:
    await line.call("k", "SET", "k", word)
    assert await other.get("k") == Connection().encoder.encode(word)


@pytest.mark.parametrize(
    ("word", "error"),
    [(None, exceptions.DataError), (True, exceptions.DataError), (["a"], exceptions.DataError), ("\ud800", ValueError)],
)
async def test_what_has_no_form_in_redis_is_refused_and_disturbs_nobody(
    line: AnyLine, word: Any, error: type[Exception]
) -> None:
    answers = await asyncio.gather(
        echo(line, "a"), line.call("k", "SET", "k", word), echo(line, "b"), return_exceptions=True
    )
    assert isinstance(answers[1], error)
    assert [answers[0], answers[2]] == ["a", "b"]
