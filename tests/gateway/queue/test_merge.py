"""A flow that has not begun: looked at without taking anything, then read with its signs of life."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from millstream.common.chunk import Chunk, Seq
from millstream.gateway.queue.merge import Chunks, MergedStream
from tests.harness.support import wait_until

FIRST: Chunks = [(Seq(1), Chunk(text="a"))]


async def said(script: "asyncio.Queue[Chunks]") -> AsyncGenerator[Chunks]:
    while True:
        yield await script.get()


async def test_a_look_passes_over_signs_of_life_and_leaves_the_first_chunks() -> None:
    script: asyncio.Queue[Chunks] = asyncio.Queue()
    flow = MergedStream([said(script)])
    script.put_nowait([])
    assert await flow.look(0.01) is None and not flow.begun
    script.put_nowait(FIRST)
    assert await flow.look(10) == (0, FIRST) and flow.begun
    script.put_nowait([])
    items = flow.items()
    assert [await anext(items), await anext(items)] == [(0, FIRST), (0, [])]
    await flow.aclose()


@pytest.mark.parametrize("looked", [True, False])
async def test_signs_of_life_come_through_before_the_first_chunks(looked: bool) -> None:
    script: asyncio.Queue[Chunks] = asyncio.Queue()
    flow = MergedStream([said(script)])
    if looked:
        assert await flow.look(0) is None
    items = flow.items()
    for chunks in ([], [], FIRST, []):
        waiting = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0)
        script.put_nowait(chunks)
        assert await waiting == (0, chunks)
    await flow.aclose()


async def test_closing_ends_the_following_while_it_waits() -> None:
    ended: list[bool] = []

    async def never() -> AsyncGenerator[Chunks]:
        try:
            await asyncio.Event().wait()
            yield []
        finally:
            ended.append(True)

    flow = MergedStream([never()])
    assert await flow.look(0) is None
    reading = asyncio.ensure_future(anext(flow.items()))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await flow.aclose()
    await wait_until(lambda: ended == [True])
