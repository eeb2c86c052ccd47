"""Work that outlives its request, such as following a background response: owned here, ended with the process."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any, Self

import structlog

from millstream.common.errors import Unavailable
from millstream.common.process.backoff import Backoff

LAST_TRIES = 2.0  # seconds a process that ends gives to what it had promised to do
GIVE_UP = 3600.0  # seconds of a Redis that is away until such a promise is broken
log = structlog.stdlib.get_logger(part="background_tasks")


class BackgroundTasks:
    """An `async with` scope; leaving it cancels what still runs. What fails is logged: nobody waits for it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._promised: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._promised:
            await asyncio.wait(self._promised, timeout=LAST_TRIES)
        for task in self._promised:
            log.error("background_task_unfinished", work=task.get_name())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def promise(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Does the work. If Redis is away it is done when it is back, and the caller goes on."""
        try:
            await work()
        except Unavailable as error:
            log.warning("background_task_postponed", work=name, error=error.message)
            task = self.start(until_done(work), name)
            self._promised.add(task)
            task.add_done_callback(self._promised.discard)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begins the work."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background_task_failed", work=task.get_name(), exc_info=error)


async def until_done(work: Callable[[], Awaitable[None]]) -> None:
    """Does the work, again and again while Redis is away. Raises what it raises otherwise, in the end `Unavailable`."""
    backoff, give_up = Backoff(most=2.0), monotonic() + GIVE_UP
    while True:
        try:
            return await work()
        except Unavailable:
            if monotonic() > give_up:
                raise
            await backoff.sleep()
