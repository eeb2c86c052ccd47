"""A slice of a batch's work: lines are fed to the queue as there is room, their answers recorded and flushed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import structlog

from millstream.common.broker.models.directory import ModelInfo
from millstream.common.broker.records.batches import Batches, LineResult
from millstream.common.errors import Unavailable
from millstream.common.process.backoff import Backoff
from millstream.common.process.tasks import TaskGroup
from millstream.gateway.background.batches.answering import LineRunner
from millstream.gateway.background.batches.concurrency import LEAST, lines_in_flight
from millstream.gateway.background.batches.lease import BatchLease
from millstream.gateway.background.batches.lines import RawLine
from millstream.gateway.background.batches.parts import FLUSH, Parts
from millstream.gateway.records.batches import Batch

WINDOW = 4096  # lines a slow one may lag: bounds the answers that wait in Redis
LOOK_EVERY = 0.25  # seconds between two looks at how busy the workers are
log = structlog.stdlib.get_logger(part="batches")
ModelLookup = Callable[[], Awaitable[ModelInfo | None]]


@dataclass(slots=True)
class SliceProgress:
    """The progress of a slice. Lines below `flushed` lie in parts; `recorded` ones after it are in Redis."""

    flushed: int
    recorded: set[int]
    target: int = LEAST
    fed: int = 0  # lines below it have been read from the input
    at_end: bool = False  # the whole input has been read
    ends: dict[int, int] = field(default_factory=dict[int, int])  # line -> where the next begins, bytes
    active: dict[int, asyncio.Task[None]] = field(default_factory=dict[int, asyncio.Task[None]])
    fresh: list[LineResult] = field(default_factory=list[LineResult])

    def room_for(self, line: int) -> bool:
        """Tells whether the line may go onto the queue."""
        return len(self.active) < self.target and line < self.flushed + WINDOW

    def flushable(self) -> int:
        """Returns the line up to which answers can leave Redis now; `flushed` if it is not yet worth it."""
        last = self.flushed
        while last in self.recorded and last in self.ends and last < self.flushed + FLUSH:
            last += 1
        whole = last - self.flushed == FLUSH
        return last if whole or (self.at_end and last == self.fed) else self.flushed

    @property
    def done(self) -> bool:
        """Tells whether every line's answer lies in a part."""
        return self.at_end and self.flushed == self.fed


class Slice:
    """One process's turn at a batch."""

    def __init__(self, batch: Batch, batches: Batches, lease: BatchLease, answering: LineRunner, parts: Parts) -> None:
        self._batch = batch
        self._batches = batches
        self._lease = lease
        self._answering = answering
        self._parts = parts
        self._changed = asyncio.Event()
        self._progress = SliceProgress(batch.flushed, set())

    async def work(self, lines: AsyncIterator[RawLine], look: ModelLookup, most: int, seconds: float) -> bool:
        """Works for so many seconds at most, less if the batch is cancelled or its window ends. Whether all lines are
        answered. Raises `LeaseLost`, `StorageFailed`."""
        self._progress.recorded = await self._batches.recorded(self._batch.id)
        self._progress.fed = self._progress.flushed
        deadline = asyncio.get_running_loop().time() + seconds
        async with TaskGroup() as tasks:
            helpers = [
                tasks.create_task(self._feed(lines, tasks)),
                tasks.keep(partial(self._watch, look, most), "watch"),
            ]
            while not self._progress.done and not self._over(deadline):
                await self._settle()
                await self._pause(deadline)
            for task in [*helpers, *self._progress.active.values()]:
                task.cancel()
        await self._settle()
        return self._progress.done

    def _over(self, deadline: float) -> bool:
        lease = self._lease
        stopped = lease.status != "in_progress" or lease.now >= self._batch.expires
        return stopped or asyncio.get_running_loop().time() >= deadline

    async def _pause(self, deadline: float) -> None:
        """Waits until something changes; the deadline and the lease are looked at four times a second."""
        if self._progress.done or self._progress.fresh:
            return
        self._changed.clear()
        left = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(0.0, min(left, LOOK_EVERY))):
                await self._changed.wait()
        except TimeoutError:
            pass  # time to look again

    async def _feed(self, lines: AsyncIterator[RawLine], tasks: TaskGroup) -> None:
        progress = self._progress
        async for raw in lines:
            index = progress.fed
            progress.ends[index] = raw.end
            progress.fed += 1
            if index in progress.recorded:
                continue
            while not progress.room_for(index):
                self._changed.clear()
                await self._changed.wait()
            progress.active[index] = tasks.create_task(self._answer(index, raw.text))
        progress.at_end = True
        self._changed.set()

    async def _answer(self, index: int, text: bytes) -> None:
        result = await self._answering.answer(index, text)
        self._progress.fresh.append(result)
        self._progress.active.pop(index)
        self._changed.set()

    async def _watch(self, look: ModelLookup, most: int) -> None:
        """Adapts the number of lines in flight to how busy the workers are."""
        while True:
            try:
                model = await look()
                self._progress.target = lines_in_flight(len(self._progress.active), model, most)
                self._changed.set()
            except Unavailable as error:
                log.debug("workers_not_seen", batch=self._batch.id, error=error.message)
            await asyncio.sleep(LOOK_EVERY)

    async def _settle(self) -> None:
        """Records what is fresh, and flushes what can leave Redis. While Redis is away it tries again."""
        progress, backoff = self._progress, Backoff()
        while progress.fresh or progress.flushable() > progress.flushed:
            try:
                await self._record()
                await self._flush()
                backoff.reset()
            except Unavailable as error:
                log.warning("answers_postponed", batch=self._batch.id, lines=len(progress.fresh), error=error.message)
                await backoff.sleep()

    async def _record(self) -> None:
        fresh = list(self._progress.fresh)
        if not fresh:
            return
        if not await self._batches.record(self._batch.id, self._lease.grant, fresh):
            await self._lease.renew()  # Redis was away for long, or somebody else has the batch
            return
        del self._progress.fresh[: len(fresh)]
        self._progress.recorded.update(each.line for each in fresh)

    async def _flush(self) -> None:
        progress = self._progress
        last = progress.flushable()
        if last == progress.flushed:
            return
        await self._parts.flush(self._lease, progress.flushed, last, progress.ends[last - 1])
        for line in range(progress.flushed, last):
            progress.recorded.discard(line)
            progress.ends.pop(line)
        progress.flushed = last
        self._changed.set()
