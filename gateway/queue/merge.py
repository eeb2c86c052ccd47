"""The chunks of one request's jobs as one flow, whose beginning can be looked at without taking it."""

import asyncio
from collections.abc import AsyncGenerator

from millstream.common.chunk import Chunk, Seq

Chunks = list[tuple[Seq, Chunk]]
ChunkSource = AsyncGenerator[Chunks]
ChoiceChunks = tuple[int, Chunks]  # which job, and its next chunks; no chunks: a sign of life


async def merged(followed: list[ChunkSource]) -> AsyncGenerator[ChoiceChunks]:
    """Yields all jobs' chunks as they come. One job, the usual case, costs no task."""
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


async def _turn(source: ChunkSource) -> Chunks | None:
    return await anext(source, None)


class MergedStream:
    """The jobs' followers in one; `aclose` closes them all."""

    def __init__(self, followed: list[ChunkSource]) -> None:
        self._followed = followed
        self._items = merged(followed)
        self._ahead: asyncio.Task[ChoiceChunks | None] | None = None
        self._had = False  # what the task ahead found has been handed out
        self._heeded = False  # signs of life are heeded from now on

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
        """Tells whether the first item is there."""
        return self._ahead is not None and self._ahead.done()

    async def look(self, wait: float) -> ChoiceChunks | None:
        """Returns the first item, left in the flow; None if none came within `wait` seconds, or none ever will. Raises
        what following raises."""
        if self._ahead is None:
            self._ahead = asyncio.create_task(self._first())
        await _settled(self._ahead, wait)
        return self._ahead.result() if self._ahead.done() else None

    async def _first(self) -> ChoiceChunks | None:
        async for item in self._items:
            if item[1] or self._heeded:
                return item
        return None

    async def items(self) -> AsyncGenerator[ChoiceChunks]:
        """Yields everything, from the first item on; before it come signs of life too."""
        self._heeded = True
        if self._ahead is not None:
            first = await self._ahead
            self._had = True
            if first is None:
                return
            yield first
        async for item in self._items:
            yield item


async def _settled(task: asyncio.Task[ChoiceChunks | None], wait: float) -> None:
    """Waits until the task is done, at most `wait` seconds: `asyncio.wait` for one task, at a third of its cost."""
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
