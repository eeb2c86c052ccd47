"""Limits of API keys: reserved at submit, settled exactly once, whatever happens in between."""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millstream.common.broker import keys
from millstream.common.broker.accounts.keyring import UNCOUNTED, ApiKey, KeyLimits
from millstream.common.broker.accounts.limits import Reserved, refund, reserve, settle_owed, usage
from millstream.common.broker.connection.broker import Broker
from millstream.common.job import JobId, ModelName

MODEL = ModelName("tiny")


@pytest_asyncio.fixture
async def broker(redis_url: str) -> AsyncIterator[Broker]:
    async with Broker(redis_url) as broker:
        yield broker


def key(**limits: int) -> ApiKey:
    return ApiKey("key_1", "acme", limits=KeyLimits(**limits))


async def ask(broker: Broker, api_key: ApiKey, name: str, tokens: int = 10, jobs: int = 1) -> Reserved:
    return await reserve(broker, api_key, name, {JobId(f"{name}-{i}"): tokens for i in range(jobs)}, 60_000)


async def end(broker: Broker, api_key: ApiKey, job: str, tokens: int) -> None:
    """Notes what the script that settles a job notes."""
    await broker.redis.hset(keys.owed(MODEL), job, f"{api_key.id} {tokens}")  # type: ignore[misc]


def today() -> tuple[str, str]:
    now = time.gmtime()
    return time.strftime("%Y-%m-%d", now), time.strftime("%Y-%m", now)


async def spent(broker: Broker, api_key: ApiKey) -> int:
    used = await usage(broker, api_key.id, today())
    day, month = (used.tokens[period] for period in today())
    assert day == month
    return day


async def test_exactly_as_many_requests_enter_as_a_minute_allows(broker: Broker) -> None:
    limited = key(requests_per_minute=5)
    answers = await asyncio.gather(*(ask(broker, limited, f"r{i}") for i in range(20)))
    assert sorted(answer.reason for answer in answers) == [""] * 5 + ["requests"] * 15
    refused = next(answer for answer in answers if answer.reason)
    assert 0 < refused.wait <= 12
    assert refused.meter.requests == 0


async def test_tokens_are_reserved_and_what_was_not_used_comes_back(broker: Broker) -> None:
    limited = key(tokens_per_minute=1000)
    assert (await ask(broker, limited, "a", 800)).reason == ""
    refused = await ask(broker, limited, "b", 800)
    assert refused.reason == "tokens" and 30 < refused.wait <= 36
    await end(broker, limited, "a-0", 100)
    assert await settle_owed(broker, MODEL) == 1
    assert (await ask(broker, limited, "b", 800)).reason == ""
    assert (await ask(broker, limited, "c", 5000)).reason == "size"


async def test_a_batchs_lines_neither_refill_the_minute_nor_count_as_requests_at_once(broker: Broker) -> None:
    limited = key(requests_per_minute=10, tokens_per_minute=1000, concurrent=1)
    assert (await ask(broker, limited, "a", 800)).reason == ""
    line = key(concurrent=UNCOUNTED)
    assert (await ask(broker, line, "line", 5000)).reason == ""
    assert (await usage(broker, "key_1", today())).open_requests == 1
    await end(broker, limited, "line-0", 10)
    await settle_owed(broker, MODEL)
    await ask(broker, line, "refused", 5000)
    await refund(broker, "key_1", [JobId("refused-0")])
    left = (await ask(broker, limited, "a", 800)).meter
    assert left.tokens < 300 and left.requests == 9
    assert await spent(broker, limited) == 810


async def test_settling_twice_changes_nothing(broker: Broker) -> None:
    limited = key(tokens_per_day=1000)
    await ask(broker, limited, "a", 500)
    for _ in range(3):
        await end(broker, limited, "a-0", 70)
        await asyncio.gather(*(settle_owed(broker, MODEL) for _ in range(4)))
    assert await spent(broker, limited) == 70
    assert not await broker.redis.exists(keys.owed(MODEL), keys.open_jobs("key_1"), keys.open_requests("key_1"))


async def test_reserving_twice_changes_nothing(broker: Broker) -> None:
    limited = key(tokens_per_day=1000, concurrent=1)
    assert (await ask(broker, limited, "a", 500)).reason == (await ask(broker, limited, "a", 500)).reason == ""
    assert await spent(broker, limited) == 500


async def test_requests_at_once_are_counted_until_their_last_job_ends(broker: Broker) -> None:
    limited = key(concurrent=1)
    await ask(broker, limited, "a", jobs=2)
    assert (await ask(broker, limited, "b")).reason == "concurrent"
    await end(broker, limited, "a-0", 1)
    await settle_owed(broker, MODEL)
    assert (await ask(broker, limited, "b")).reason == "concurrent"
    await end(broker, limited, "a-1", 1)
    await settle_owed(broker, MODEL)
    assert (await ask(broker, limited, "b")).reason == ""


async def test_a_refused_request_costs_nothing(broker: Broker) -> None:
    limited = key(requests_per_minute=1, tokens_per_minute=100, tokens_per_month=100)
    await ask(broker, limited, "a", 100)
    await refund(broker, limited.id, [JobId("a-0")])
    assert await spent(broker, limited) == 0
    assert (await ask(broker, limited, "b", 100)).reason == ""


@pytest.mark.parametrize("period", ["day", "month"])
async def test_a_budget_holds_until_its_period_ends(broker: Broker, period: str) -> None:
    limited = key(**{f"tokens_per_{period}": 100})
    assert (await ask(broker, limited, "a", 90)).reason == ""
    refused = await ask(broker, limited, "b", 20)
    now = time.time()
    assert refused.reason == period
    begins = time.gmtime(now + refused.wait + 1)
    assert (begins.tm_hour, begins.tm_min) == (0, 0)
    assert begins.tm_mday == 1 or period == "day"


async def test_a_reservation_nobody_submitted_lapses(broker: Broker) -> None:
    limited = key(concurrent=1)
    await ask(broker, limited, "a", 500)
    await broker.redis.zadd(keys.lapsing("key_1"), {"a-0": 1})
    assert (await ask(broker, limited, "b", 7)).reason == ""
    assert await spent(broker, limited) == 7


async def test_nothing_is_kept_for_ever(broker: Broker) -> None:
    limited = key(requests_per_minute=5, tokens_per_minute=1000, tokens_per_day=1000)
    await ask(broker, limited, "a", 500)
    assert all([await broker.redis.ttl(name) > 0 async for name in broker.redis.scan_iter("ms:*")])


steps = st.lists(st.tuples(st.sampled_from(["ask", "end", "settle", "refund"]), st.integers(0, 7)), max_size=40)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_any_mix_of_events_leaves_the_books_exact(redis_url: str, mix: list[tuple[str, int]]) -> None:
    asyncio.run(_keep_books(redis_url, mix))


async def _keep_books(redis_url: str, mix: list[tuple[str, int]]) -> None:
    limited = key(tokens_per_day=10_000, concurrent=3)
    open_jobs, used, ended = set[int](), 0, dict[int, int]()
    async with Broker(redis_url) as broker:
        await broker.redis.flushall()
        for number, (verb, which) in enumerate(mix):
            name = f"r{which}"
            if verb == "ask":
                answer = await ask(broker, limited, name, 100)
                fits = which in open_jobs or len(open_jobs) < 3
                assert (answer.reason == "") is fits
                open_jobs |= {which} if fits else set()
            elif verb == "end" and which in open_jobs and which not in ended:
                ended[which] = number
                await end(broker, limited, f"{name}-0", number)
            elif verb == "refund" and which not in ended:
                await refund(broker, limited.id, [JobId(f"{name}-0")])
                open_jobs.discard(which)
            elif verb == "settle":
                await settle_owed(broker, MODEL)
                used += sum(ended.values())
                open_jobs -= set(ended)
                ended.clear()
        assert await spent(broker, limited) == used + 100 * len(open_jobs)
        assert (await usage(broker, limited.id, ())).open_requests == len(open_jobs)


def test_a_key_is_stored_without_the_key() -> None:
    stored = ApiKey("key_1", "acme", ending="abcd", limits=KeyLimits(concurrent=2))
    assert msgspec.json.decode(msgspec.json.encode(stored), type=ApiKey) == stored
    assert stored.tier("priority") == "priority"
    assert ApiKey("k", "t", ceiling="flex").tier("default") == "flex"
    assert ApiKey("k", "t", ceiling="flex").tier("batch") == "batch"
