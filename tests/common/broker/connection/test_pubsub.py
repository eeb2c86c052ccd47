"""A subscription that is quiet is asked; one that is dead is noticed; what comes together is handed out together."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from millstream.bench.chaos.proxy import Proxy
from millstream.common.broker.chunks import FrameChannel
from millstream.common.broker.connection import pubsub as subscription
from millstream.common.broker.connection.broker import RedisAway
from millstream.common.broker.connection.pubsub import subscribed
from millstream.common.broker.control import ControlChannel
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.job import GatewayId, WorkerId
from tests.harness.support import wait_until


@pytest_asyncio.fixture
async def other(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


async def test_the_first_word_is_that_it_stands_then_messages_come_in_order(redis_url: str, other: Redis) -> None:
    async with subscribed(redis_url, "news") as messages:
        assert await messages.next() == [None]
        async with other.pipeline() as pipe:
            for n in range(100):
                pipe.publish("news", n)
            await pipe.execute()
        heard: list[bytes | None] = []
        while len(heard) < 100:
            heard += await messages.next()
        assert heard == [str(n).encode() for n in range(100)]


async def test_what_arrived_together_is_handed_out_without_going_back_to_the_loop(redis_url: str, other: Redis) -> None:
    async with subscribed(redis_url, "news") as messages:
        await messages.next()
        await other.eval("for n = 1, 50 do redis.call('PUBLISH', 'news', n) end", 0)  # type: ignore[misc]
        assert len(await messages.next()) == 50


async def test_a_quiet_one_is_pinged_and_stays(redis_url: str, other: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "PING_EVERY", 0.2)
    await other.config_resetstat()
    async with subscribed(redis_url, "news") as messages:
        await messages.next()
        await wait_until(lambda: pinged(other, 3))
        await other.publish("news", "late")
        assert await messages.next() == [b"late"]


async def pinged(other: Redis, times: int) -> bool:
    return (await other.info("commandstats")).get("cmdstat_ping", {"calls": 0})["calls"] >= times


async def test_a_silent_one_is_redis_away(
    valkey: EmbeddedValkey, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "PING_EVERY", 0.1)
    async with Proxy("127.0.0.1", valkey.port) as proxy:
        with pytest.raises(RedisAway, match="silent"):
            async for frames in FrameChannel(proxy.url, GatewayId("g1")).listen():
                assert frames == []
                proxy.silent()
        proxy.passing()


async def test_a_killed_one_is_redis_away(redis_url: str, other: Redis) -> None:
    with pytest.raises(RedisAway):
        async for frames in FrameChannel(redis_url, GatewayId("g1")).listen():
            assert frames == []
            await other.client_kill_filter(_type="pubsub")


async def test_one_that_is_forbidden_is_redis_away(own_valkey: EmbeddedValkey) -> None:
    async with Redis.from_url(own_valkey.url) as other:
        await other.execute_command("ACL", "SETUSER", "default", "-subscribe")
        with pytest.raises(RedisAway, match="permission"):
            await anext(FrameChannel(own_valkey.url, GatewayId("g1")).listen())


async def test_it_ends_with_its_task_and_leaves_no_connection(redis_url: str, other: Redis) -> None:
    stands = asyncio.Event()

    async def listen() -> None:
        async for _ in FrameChannel(redis_url, GatewayId("g1")).listen():
            stands.set()

    task = asyncio.create_task(listen())
    await stands.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await wait_until(lambda: nobody_subscribed(other))


async def nobody_subscribed(other: Redis) -> bool:
    return not await other.client_list(_type="pubsub")


async def test_hints_are_told_apart_from_nonsense(redis_url: str, other: Redis) -> None:
    hints = ControlChannel(redis_url, WorkerId("w1")).hints()
    first = asyncio.ensure_future(anext(hints))
    await wait_until(lambda: somebody_listens(other))
    for message in (b"\xff\xff", b"", b"dance j1", b"cancel j1", b"preempt j2"):
        await other.publish("ms:control:w1", message)
    assert await first == ("cancel", "j1")
    assert await anext(hints) == ("preempt", "j2")
    await hints.aclose()  # type: ignore[attr-defined]


async def somebody_listens(other: Redis) -> bool:
    [(_, count)] = await other.pubsub_numsub("ms:control:w1")
    return count == 1
