"""A flow that has not begun: its signs of life."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from gateway.flow import QUEUED, Chunks, Flow, pause_at


@pytest.mark.parametrize(("position", "most", "pause"), [(0, 15, QUEUED), (48, 15, 8), (10_000, 15, 15), (1, 0.5, 0.5)])
def test_a_place_is_told_more_rarely_the_farther_back_it_is(position: int, most: float, pause: float) -> None:
    assert pause_at(position, most) == pause


async def never() -> AsyncGenerator[Chunks]:
    await asyncio.Event().wait()
    yield []


async def test_the_pause_until_the_next_sign_is_what_it_was_last_set_to() -> None:
    flow = Flow([never()])
    assert await flow.look(0) is None
    signs = flow.items()
    flow.pause = 0.0
    assert [await anext(signs), await anext(signs)] == [(0, []), (0, [])]
    flow.pause = 3600.0
    waiting = asyncio.ensure_future(anext(signs))
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await flow.aclose()
