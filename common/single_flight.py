"""One question for all who ask the same at the same moment: a burst of requests looks up once what each needs to know,
instead of opening a connection to Redis for each."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


class SingleFlight(Generic[Key, Found]):
    """`ask`, for many at once. Raises to all of them what it raises; when all of them have left it is given up."""

    def __init__(self, ask: Callable[[Key], Awaitable[Found]]) -> None:
        self._ask = ask
        self._asked: dict[Key, _Question[Found]] = {}

    async def __call__(self, key: Key) -> Found:
        question = self._asked.get(key) or _Question(asyncio.ensure_future(self._ask(key)))
        if self._asked.setdefault(key, question).askers == 0:
            question.answer.add_done_callback(lambda _: self._close(key, question))
        question.askers += 1
        try:
            return await asyncio.shield(question.answer)  # whoever asked first may leave
        finally:
            question.askers -= 1
            if not question.askers:
                self._close(key, question)  # at once: the next one does not join what ends
                question.answer.cancel()

    def _close(self, key: Key, question: "_Question[Found]") -> None:
        if self._asked.get(key) is question:
            del self._asked[key]


@dataclass(slots=True)
class _Question(Generic[Found]):
    answer: asyncio.Future[Found]
    askers: int = 0
