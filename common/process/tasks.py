"""Tasks that have an owner: a group that forgets no cancellation, loops that go on until they are told to end."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, cast

from structlog.stdlib import BoundLogger

from millstream.common.errors import MillstreamError
from millstream.common.process.cancellation import cancellation_wins

START_ANEW = 70  # exit status: something that must go on has ended, and a new process may do better


class LoopEnded(Exception):
    """A loop that runs as long as its owner has ended, and nobody had told it to."""


class TaskGroup(asyncio.TaskGroup):
    """A task group like asyncio's. When its owner was cancelled and a task failed as well, it is left by the
    cancellation, which asyncio's own forgets."""

    async def __aenter__(self) -> Self:
        self._wins = cancellation_wins()
        self._wins.__enter__()
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        except BaseException as failure:
            self._wins.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._wins.__exit__(None, None, None)

    def keep(self, loop: Callable[[], Awaitable[object]], name: str) -> asyncio.Task[None]:
        """Returns a task that runs until it is cancelled. One that ends otherwise, even as cancelled by somebody it
        waited for, fails the group with `LoopEnded`, or with what it raised."""
        return self.create_task(_endless(loop, name), name=name)


async def _endless(loop: Callable[[], Awaitable[object]], name: str) -> None:
    with cancellation_wins():
        try:
            await loop()
        except asyncio.CancelledError:
            raise LoopEnded(f"The loop `{name}` was cancelled, and nobody had asked for it.") from None
        raise LoopEnded(f"The loop `{name}` has returned, and should go on.")


def leaves(error: BaseException) -> list[BaseException]:
    """Returns the errors of a group, however deep it is; of anything else itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast(BaseExceptionGroup[BaseException], error)
    return [leaf for each in group.exceptions for leaf in leaves(each)]


def tell_why_it_ends(log: BoundLogger, error: BaseException) -> int:
    """One line of the log for what ends the process, with a traceback if it is a fault of ours; the exit status."""
    errors = leaves(error)
    expected = all(isinstance(each, MillstreamError | LoopEnded) for each in errors)
    facts: dict[str, Any] = {} if expected else {"exc_info": error}
    told = " ".join(dict.fromkeys(str(each) or type(each).__name__ for each in errors))
    log.error("cannot_go_on", error=told, **facts)
    return START_ANEW
