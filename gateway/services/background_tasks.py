"""Work that outlives its request, such as following a background response: owned here, ended with the process."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Self

import structlog

log = structlog.stdlib.get_logger(part="afterwork")


class BackgroundTasks:
    """An `async with` scope; leaving it cancels what still runs. What fails is logged: nobody waits for it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begins the work."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("afterwork failed", work=task.get_name(), exc_info=error)
