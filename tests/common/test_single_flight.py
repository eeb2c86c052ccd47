"""One question for all who ask at the same moment."""

import asyncio

import pytest

from millstream.common.broker.connection.broker import RedisAway
from millstream.common.single_flight import SingleFlight


class Oracle:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: asyncio.Queue[int | Exception] = asyncio.Queue()

    async def ask(self, key: str) -> int:
        self.asked.append(key)
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_many_at_once_ask_once_and_later_ones_anew() -> None:
    oracle = Oracle()
    together = SingleFlight(oracle.ask)
    many = [asyncio.ensure_future(together("a")) for _ in range(100)]
    await asyncio.sleep(0)
    oracle.answers.put_nowait(1)
    assert set(await asyncio.gather(*many)) == {1} and oracle.asked == ["a"]
    oracle.answers.put_nowait(2)
    assert await together("a") == 2


async def test_whoever_asked_first_may_leave() -> None:
    oracle = Oracle()
    together = SingleFlight(oracle.ask)
    first, second = (asyncio.ensure_future(together("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    oracle.answers.put_nowait(1)
    assert await second == 1 and oracle.asked == ["a"]


async def test_all_hear_of_a_failure_and_the_next_one_asks_again() -> None:
    oracle = Oracle()
    together = SingleFlight(oracle.ask)
    many = [asyncio.ensure_future(together("a")) for _ in range(3)]
    await asyncio.sleep(0)
    oracle.answers.put_nowait(RedisAway("no"))
    assert {type(each) for each in await asyncio.gather(*many, return_exceptions=True)} == {RedisAway}
    oracle.answers.put_nowait(RedisAway("no"))
    with pytest.raises(RedisAway):
        await together("a")
    assert oracle.asked == ["a", "a"]


async def test_what_nobody_waits_for_any_more_is_given_up_and_asked_anew_by_the_next() -> None:
    oracle = Oracle()
    together = SingleFlight(oracle.ask)
    many = [asyncio.ensure_future(together("a")) for _ in range(2)]
    await asyncio.sleep(0)
    for each in many:
        each.cancel()
    await asyncio.gather(*many, return_exceptions=True)
    third = asyncio.ensure_future(together("a"))
    await asyncio.sleep(0)
    oracle.answers.put_nowait(1)
    assert await third == 1 and oracle.asked == ["a", "a"]
