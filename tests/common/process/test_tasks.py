"""Groups of tasks and loops: what ends unasked fails its group, and a cancellation wins over every failure."""

import asyncio
import contextlib

import pytest

from millstream.common.process.cancellation import cancellation_wins
from millstream.common.process.tasks import LoopEnded, TaskGroup, leaves


async def for_ever() -> None:
    await asyncio.Event().wait()


async def cancelled_from_inside() -> None:
    asleep = asyncio.create_task(asyncio.sleep(60))
    asleep.cancel()
    await asleep


async def returning() -> None:
    pass


async def failing() -> None:
    raise ValueError("broken")


@pytest.mark.parametrize(
    ("loop", "told"),
    [(cancelled_from_inside, "was cancelled"), (returning, "has returned"), (failing, "broken")],
)
async def test_a_loop_that_ends_unasked_fails_its_group(loop: object, told: str) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as tasks:
            tasks.keep(loop, "the loop")  # type: ignore[arg-type]
            await for_ever()
    [error] = leaves(caught.value)
    assert told in str(error)
    assert isinstance(error, LoopEnded) == (loop is not failing)


async def test_a_loop_that_is_told_to_end_ends_quietly() -> None:
    async with TaskGroup() as tasks:
        kept = tasks.keep(for_ever, "the loop")
        await asyncio.sleep(0)
        kept.cancel()
    assert kept.cancelled()


async def test_a_loop_that_fails_when_it_is_told_to_end_has_ended_as_told() -> None:
    async def failing_at_the_end() -> None:
        try:
            await for_ever()
        finally:
            raise ValueError("a clean-up that fails")

    async with TaskGroup() as tasks:
        kept = tasks.keep(failing_at_the_end, "the loop")
        await asyncio.sleep(0)
        kept.cancel()
    assert kept.cancelled()


async def test_the_owners_cancellation_wins_over_a_task_that_fails_as_well() -> None:
    begun, fail = asyncio.Event(), asyncio.Event()

    async def fails() -> None:
        begun.set()
        await fail.wait()
        raise ValueError("broken")

    async def owner() -> None:
        with contextlib.suppress(ExceptionGroup):
            async with TaskGroup() as tasks:
                tasks.create_task(fails())
                await for_ever()
        await for_ever()

    task = asyncio.create_task(owner())
    await begun.wait()
    fail.set()
    await asyncio.sleep(0)  # it fails now, and its group has not heard of it
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=10)
    assert done and task.cancelled()


async def test_what_came_before_the_block_is_not_looked_at() -> None:
    async def farewell() -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            with cancellation_wins(), contextlib.suppress(ValueError):
                await failing()
        return "said"

    task = asyncio.create_task(farewell())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "said"
