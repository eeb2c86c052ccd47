"""A cancellation wins over an error.

A task that is cancelled in the moment when its work fails must end as cancelled: whoever catches the error goes on,
and nobody cancels it a second time. Three things forget a cancellation: `asyncio.wait_for` before Python 3.12 when its
own work is done already (redis-py sends with it), a task group one of whose tasks fails as well, and a clean-up that
fails. Code of others is therefore called inside of `cancellation_wins`, and tasks are grouped by `tasks.TaskGroup`.
"""

import asyncio
from types import TracebackType


class cancellation_wins:
    """`with cancellation_wins():` a task that was cancelled inside the block leaves it as cancelled, although the block
    returned or raised something else. Cancellations from before the block are not looked at, so that last words
    can be said after one. A class and no generator, which would cost a tenth of a call to Redis."""

    __slots__ = ("_before", "_task")

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task else 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is None or self._task.cancelling() <= self._before:
            return
        if error is None or isinstance(error, Exception):  # the end of a generator or of the process is no error
            raise asyncio.CancelledError from error
