"""Tenants take turns with their guides; nobody waits for another's, and nothing is compiled that nobody wants."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from millstream.common.errors import BadGrammar, Overloaded
from millstream.common.job import Guide
from millstream.worker.engines.grammar.compiling import Vocabulary
from millstream.worker.engines.grammar.guides import GuideCompiler
from millstream.worker.engines.grammar.kept import Kept
from millstream.worker.engines.guide_limits import GuideLimits
from tests.harness.support import wait_until
from tests.worker.engines.grammar.guides_of_every_size import choices

FINE, OTHER = Guide("regex", "[a-z]{3}"), Guide("regex", "[a-z]{4}")
SLOW, SLOWER = choices(300_000), choices(300_001)
HANG = 30.0  # seconds; only a safety net


@pytest_asyncio.fixture
async def compiler(vocabulary: Vocabulary) -> AsyncIterator[GuideCompiler]:
    made = GuideCompiler(vocabulary, GuideLimits(seconds=120))
    yield made
    made.close()


async def begun(compiler: GuideCompiler, guide: Guide, tenant: str) -> asyncio.Task[None]:
    """A compile that is in its trial."""
    task = asyncio.create_task(compiler.compile(guide, tenant))
    await wait_until(lambda: any(trial.pid for trial in compiler._threads.trials), within=HANG)
    return task


async def stopped(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_another_tenant_does_not_wait(compiler: GuideCompiler) -> None:
    slow = [await begun(compiler, SLOW, "b"), asyncio.create_task(compiler.compile(SLOWER, "b"))]
    async with asyncio.timeout(HANG):
        await compiler.compile(FINE, "a")
        await compiler.compile(Guide("json_object"), "a")
    assert not any(task.done() for task in slow)
    await stopped(*slow)


async def test_a_plain_guide_waits_for_none_of_the_others(compiler: GuideCompiler) -> None:
    slow = [await begun(compiler, SLOW, "b"), asyncio.create_task(compiler.compile(SLOWER, "c"))]
    async with asyncio.timeout(HANG):
        await compiler.compile(choices(3), "a")
    assert not any(task.done() for task in slow)
    await stopped(*slow)


async def test_the_same_tenants_next_guide_waits_its_turn(compiler: GuideCompiler) -> None:
    slow = await begun(compiler, SLOW, "b")
    compiler._patience = 0.05
    with pytest.raises(Overloaded, match="still being compiled"):
        await compiler.compile(FINE, "b")
    await stopped(slow)


async def test_a_compile_that_is_left_is_ended_and_the_next_one_is_served(compiler: GuideCompiler) -> None:
    waiting = [await begun(compiler, SLOW, "b"), asyncio.create_task(compiler.compile(SLOWER, "b"))]
    await stopped(*waiting)
    async with asyncio.timeout(HANG):
        await compiler.compile(FINE, "b")
    assert compiler._turns == {}


async def test_all_who_want_the_same_share_one_compile(compiler: GuideCompiler) -> None:
    first, second = await begun(compiler, SLOW, "b"), asyncio.create_task(compiler.compile(SLOW, "b"))
    await stopped(first)
    assert not second.done()
    assert [turn.asked for turn in compiler._turns.values()] == [1]
    await stopped(second)


async def test_a_refusal_stands_for_a_while(vocabulary: Vocabulary) -> None:
    compiler = GuideCompiler(vocabulary, GuideLimits(seconds=0.3))
    for _ in range(2):
        with pytest.raises(BadGrammar, match=r"longer than 0\.3 s"):
            await compiler.compile(SLOW, "b")
        assert not any(trial.pid for trial in compiler._threads.trials)
    compiler.close()


def test_the_newest_guides_are_kept_by_number_and_by_size() -> None:
    kept: Kept[int] = Kept(3, 10)
    guides = [Guide("regex", str(number) * 3) for number in range(4)]
    for number, guide in enumerate(guides):
        kept.put(guide, number)
    assert [kept.get(guide) for guide in guides] == [None, 1, 2, 3]
    kept.get(guides[1])
    kept.put(Guide("regex", "x" * 5), 9)
    assert [kept.get(guide) for guide in guides] == [None, 1, None, None]
    kept.put(Guide("regex", "x" * 99), 10)
    assert len(kept) == 1
