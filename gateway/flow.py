"""The chunks of one request's jobs as one flow, whose beginning can be looked at without taking it."""

import asyncio
from collections.abc import AsyncGenerator

from common.chunk import Chunk, Seq

QUEUED = 2.0  # seconds between two signs of life of a stream that has not begun: they tell its place in the queue
NEAR = 16  # a place: twice as far back, told half as often
Chunks = list[tuple[Seq, Chunk]]
Follower = AsyncGenerator[Chunks]
Item = tuple[int, Chunks]  # which job, and its next chunks; no chunks: a sign of life


async def merged(followed: list[Follower]) -> AsyncGenerator[Item]:
    """All jobs' chunks as they come. One job, the usual case, costs no task."""
    if len(followed) == 1:
        async for chunks in followed[0]:
            yield 0, chunks
        return
    turns = {asyncio.ensure_future(_turn(source)): index for index, source in enumerate(followed)}
    try:
        while turns:
            done, _ = await asyncio.wait(turns, return_when=asyncio.FIRST_COMPLETED)
            for turn in sorted(done, key=turns.__getitem__):
                index, chunks = turns.pop(turn), turn.result()
                if chunks is not None:
                    turns[asyncio.ensure_future(_turn(followed[index]))] = index
                    yield index, chunks
    finally:
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)


async def _turn(source: Follower) -> Chunks | None:
    return await anext(source, None)


async def settled(task: asyncio.Task[Item | None], wait: float) -> None:
    """Until the task is done, at most `wait` seconds: `asyncio.wait` for one task, at a third of its cost."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = loop.call_later(wait, wake)
    task.add_done_callback(wake)
    try:
        await waiter
    finally:
        timer.cancel()
        task.remove_done_callback(wake)


def pause_at(position: int, most: float) -> float:
    """Seconds until a stream at that place of its queue is told it again, at most `most`. Asking is what a request that
    waits costs, and far back little changes."""
    return min(QUEUED * (1 + position / NEAR), most)


class Flow:
    """The jobs' followers in one; `aclose` closes them all."""

    def __init__(self, followed: list[Follower]) -> None:
        self._followed = followed
        self._items = merged(followed)
        self._ahead: asyncio.Task[Item | None] | None = None
        self._had = False  # what the task ahead found has been handed out
        self.pause = QUEUED  # seconds until the next sign of life, while the first item is awaited

    async def aclose(self) -> None:
        """Ends the following, wherever it stands."""
        if self._ahead is not None and not self._had:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)
        await self._items.aclose()
        for source in self._followed:
            await source.aclose()

    @property
    def begun(self) -> bool:
        """Whether the first item is there."""
        return self._ahead is not None and self._ahead.done()

    async def look(self, wait: float) -> Item | None:
        """The first item, left in the flow; None if none came within `wait` seconds, or none ever will. Raises what
        following raises."""
        if self._ahead is None:
            self._ahead = asyncio.create_task(self._first())
        await settled(self._ahead, wait)
        return self._ahead.result() if self._ahead.done() else None

    async def _first(self) -> Item | None:
        async for item in self._items:
            if item[1]:
                return item
        return None

    async def items(self) -> AsyncGenerator[Item]:
        """Everything, from the first item on."""
        if self._ahead is not None:
            while not self._ahead.done():
                await settled(self._ahead, self.pause)
                if not self._ahead.done():
                    yield 0, []
            self._had = True
            first = self._ahead.result()
            if first is None:
                return
            yield first
        async for item in self._items:
            yield item
