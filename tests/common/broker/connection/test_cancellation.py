"""A cancelled task ends, also when redis-py forgets the cancellation (asyncio.wait_for does before Python 3.12)."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date

import pytest

from millstream.common.broker.accounts.usage import UsageBook
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.connection.pubsub import subscribed
from millstream.common.broker.connection.retry import retry_while_away
from millstream.common.broker.models.directory import census
from millstream.common.broker.records.batches import Batches
from millstream.common.broker.records.pending import Pending
from millstream.common.broker.records.store import RedisStore
from millstream.common.broker.workers import CLAIM, ClaimArgs
from millstream.common.errors import Unavailable
from millstream.common.job import ModelName, WorkerId
from tests.harness.loading import loading_server

CANCELLATIONS = 1500
AT_ONCE = 60


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


async def test_a_forgotten_cancellation_wins_over_an_error() -> None:
    inside, failing = asyncio.Event(), asyncio.Event()

    async def forgetful() -> None:
        async with redis_errors():
            inside.set()
            try:
                await failing.wait()
            except asyncio.CancelledError:
                pass
            raise ConnectionError("and it failed as well")

    task = asyncio.create_task(forgetful())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _subscribe(broker: Broker) -> None:
    async with subscribed(broker.url, "channel") as messages:
        await messages.next()


CALLS: dict[str, Callable[[Broker], Awaitable[object]]] = {
    "a script": lambda broker: broker.run(CLAIM, ModelName("m"), ClaimArgs(worker=WorkerId("w"), room=1)),
    "a command": lambda broker: broker.ping(),
    "a pipeline": lambda broker: RedisStore(broker).get("tenant", "kind", "id"),
    "a pipeline of writes": lambda broker: Batches(broker).create("batch", {}, 0, 1.0),
    "a hash": lambda broker: Pending(broker).ended(),
    "several calls": census,
    "a subscription": _subscribe,
    "many reads": lambda broker: UsageBook(broker).read(date(2026, 1, 1), date(2026, 1, 2), ""),
    "patience": lambda broker: retry_while_away(broker.ping, 60.0),
}


@pytest.mark.parametrize("kind", CALLS)
async def test_none_is_lost_while_a_server_refuses_everything(kind: str) -> None:
    """Each caller does what every loop of ours does: it goes on after an error."""

    async def go_on(broker: Broker) -> None:
        while True:
            try:
                await CALLS[kind](broker)
            except Unavailable:
                await asyncio.sleep(0)

    async with loading_server() as url, Broker(url) as broker:
        for first in range(0, CANCELLATIONS // len(CALLS), AT_ONCE):
            tasks = [asyncio.create_task(go_on(broker)) for _ in range(AT_ONCE)]
            for number, task in enumerate(tasks):
                for _ in range((first + number) % 7):
                    await asyncio.sleep(0)
                task.cancel()
            ended, living = await asyncio.wait(tasks, timeout=5)
            for task in living:
                task.cancel()
            assert not living and all(task.cancelled() for task in ended)
