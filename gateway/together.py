"""One question for all who ask the same at the same moment: a burst of requests looks up once what each needs to know,
instead of opening a connection to Redis for each."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


class Together(Generic[Key, Found]):
    """`ask`, for many at once. Raises to all of them what it raises."""

    def __init__(self, ask: Callable[[Key], Awaitable[Found]]) -> None:
        self._ask = ask
        self._asked: dict[Key, asyncio.Future[Found]] = {}

    async def __call__(self, key: Key) -> Found:
        answer = self._asked.get(key)
        if answer is None:
            answer = self._asked[key] = asyncio.ensure_future(self._ask(key))
            answer.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(answer)  # whoever asked first may leave

    def _answered(self, key: Key, answer: asyncio.Future[Found]) -> None:
        del self._asked[key]
        if not answer.cancelled():
            answer.exception()  # seen, also if nobody waits any more
