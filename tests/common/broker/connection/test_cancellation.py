"""A cancelled task ends, also when redis-py forgets the cancellation (asyncio.wait_for does before Python 3.12)."""

import asyncio

import pytest

from millstream.common.broker.connection.broker import Broker, redis_errors


async def test_a_forgotten_cancellation_is_raised_at_the_door() -> None:
    inside = asyncio.Event()

    async def forgetful() -> None:
        async with redis_errors():
            inside.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass

    task = asyncio.create_task(forgetful())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_farewell_after_a_cancellation_is_not_disturbed(redis_url: str) -> None:
    inside = asyncio.Event()

    async def leaving() -> str:
        async with Broker(redis_url) as broker:
            try:
                inside.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await broker.ping()
            return "said goodbye"

    task = asyncio.create_task(leaving())
    await inside.wait()
    task.cancel()
    assert await task == "said goodbye"


async def test_a_busy_loop_on_redis_always_ends(redis_url: str) -> None:
    """Cancelled at ever other moments of a command."""

    async def busy(broker: Broker) -> None:
        while True:
            await broker.ping()

    async with Broker(redis_url) as broker:
        for moment in range(200):
            task = asyncio.create_task(busy(broker))
            for _ in range(1 + moment % 40):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=5)
            assert done, f"cancelled after {1 + moment % 40} turns of the loop, still running"
