"""The books of a key are exact: several gateways, workers that die, clients that leave, jobs that are preempted."""

import asyncio
from dataclasses import replace

import pytest

from millstream.common.broker import jobs
from millstream.common.broker.accounts.keyring import ApiKey, KeyLimits
from millstream.common.broker.accounts.limits import periods, settle_owed, usage
from millstream.common.broker.upkeep import UPKEEP, UpkeepArgs
from millstream.common.broker.workers import evict_now
from millstream.common.errors import Overloaded, QuotaExceeded, TooLargeToWait
from millstream.common.job import JobId, WorkerId
from millstream.gateway.queue.client import Submission
from millstream.gateway.queue.redis_client import RedisQueueClient
from tests.harness.queue_site import MODEL, Site, chunks_of
from tests.harness.support import wait_until


def key(**limits: int) -> ApiKey:
    return ApiKey("key_1", "acme", limits=KeyLimits(**limits))


async def read(queue: RedisQueueClient, submission: Submission) -> None:
    """Follow a job to its end."""
    await chunks_of(queue, submission.jobs[0][0], tenant=submission.tenant)


async def spent(site: Site) -> int:
    day, month = await periods(site.broker)
    used = await usage(site.broker, "key_1", (day, month))
    assert used.tokens[day] == used.tokens[month]
    return used.tokens[day]


async def settled(site: Site) -> bool:
    await settle_owed(site.broker, MODEL)
    return (await usage(site.broker, "key_1", ())).open_requests == 0


async def test_what_is_spent_is_what_the_jobs_used(site: Site) -> None:
    for name in ("a", "b"):
        await site.worker(name, slots=3, rate=300)
    dispatches = [await site.gateway() for _ in range(2)]
    limited = key(tokens_per_day=10**6, concurrent=100)
    made = [
        site.submission(30, tenant="acme", key=limited, tier=("batch" if i % 3 == 0 else "default")) for i in range(30)
    ]
    await asyncio.gather(*(dispatches[i % 2].submit(one) for i, one in enumerate(made)))
    readers = [asyncio.create_task(read(dispatches[i % 2], one)) for i, one in enumerate(made)]
    for one in made[::6]:
        await dispatches[0].cancel(MODEL, [one.jobs[0][0]])
    await evict_now(site.broker, MODEL, WorkerId("a"), 3)  # it is alive: it loses its jobs and signs in again
    async with asyncio.timeout(60):
        await asyncio.gather(*readers)
    await wait_until(lambda: settled(site))
    used = [int((await jobs.read(site.broker, MODEL, one.jobs[0][0]))["tokens"]) for one in made]
    assert await spent(site) == sum(used)
    assert all(used[i] > 30 for i in range(30) if i % 6)


async def test_requests_at_once_are_exact_over_gateways_and_free_at_once(site: Site) -> None:
    await site.worker("a", slots=8, rate=500)
    dispatches = [await site.gateway() for _ in range(3)]
    limited = key(concurrent=2)
    made = [site.submission(20, tenant="acme", key=limited) for _ in range(12)]
    answers = await asyncio.gather(
        *(dispatches[i % 3].submit(one) for i, one in enumerate(made)), return_exceptions=True
    )
    entered = [i for i, answer in enumerate(answers) if not isinstance(answer, BaseException)]
    assert len(entered) == 2
    assert all(isinstance(answer, Overloaded) for i, answer in enumerate(answers) if i not in entered)
    for _ in range(3):  # one after the other, each as soon as the one before has ended
        for i in entered:
            await read(dispatches[i % 3], made[i])
            made[i] = site.submission(5, tenant="acme", key=limited)
            await dispatches[i % 3].submit(made[i])


async def test_a_request_that_does_not_enter_costs_nothing(site: Site) -> None:
    await site.beat("w", slots="1")
    queue = await site.gateway(bounds=jobs.Bounds(jobs=1))
    limited = key(tokens_per_day=1000, requests_per_minute=3)
    await site.put("running")
    first = site.submission(10, tenant="acme", key=limited, idempotency_key="k", fingerprint="f")
    await queue.submit(first)
    once = await spent(site)
    again = site.submission(10, tenant="acme", key=limited, idempotency_key="k", fingerprint="f")
    assert (await queue.submit(again)).outcome == "duplicate"
    with pytest.raises(Overloaded, match="is full"):
        await queue.submit(site.submission(10, tenant="acme", key=limited))
    assert await spent(site) == once
    await queue.cancel(MODEL, [first.jobs[0][0]])
    await wait_until(lambda: settled(site))
    assert await spent(site) == 0
    with pytest.raises(QuotaExceeded, match="1000 tokens per day"):
        await queue.submit(site.submission(5000, tenant="acme", key=limited))


async def test_an_expired_job_is_settled_too(site: Site) -> None:
    await site.beat("w", slots="1")
    queue = await site.gateway()
    await site.put("running")
    one = site.submission(10, tenant="acme", key=key(concurrent=1), timeout=0.05)
    await queue.submit(one)

    async def expired() -> bool:
        await site.broker.run(UPKEEP, MODEL, UpkeepArgs(orphan_grace_ms=1000, limit=32, grace_ms=0))
        return (await jobs.read(site.broker, MODEL, JobId(one.jobs[0][0])))["state"] == "expired"

    await wait_until(expired)
    await wait_until(lambda: settled(site))
    assert await spent(site) == 0


async def test_a_full_queue_refuses_with_the_time_its_backlog_takes(site: Site) -> None:
    await site.beat("w", slots="2", job_seconds="4")
    queue = await site.gateway(bounds=jobs.Bounds(jobs=10))
    await site.put(*(f"j{i}" for i in range(12)))
    with pytest.raises(Overloaded) as refused:
        await queue.submit(site.submission(10))
    assert refused.value.retry_after == pytest.approx(20)  # 10 waiting, 2 slots, 4 s a job
    assert "10 requests wait" in refused.value.message


def three_at_once(site: Site) -> Submission:
    return replace(site.submission(), jobs=[site.submission(10).jobs[0] for _ in range(3)])


@pytest.mark.parametrize(
    ("bounds", "excess"),
    [
        (jobs.Bounds(jobs=2), "3 sequences, and at most 2 may wait"),
        (jobs.Bounds(jobs=5, tenant_jobs=1), "3 sequences, and at most 1 may wait"),
        (jobs.Bounds(bytes=100), "bytes, and at most 100 may wait"),
        (jobs.Bounds(bytes=10**6, tenant_bytes=100), "bytes, and at most 100 may wait"),
    ],
)
async def test_a_request_too_large_to_wait_is_served_while_slots_are_free_and_else_not_asked_back(
    site: Site, bounds: jobs.Bounds, excess: str
) -> None:
    await site.beat("w", slots="5")
    queue = await site.gateway(bounds=bounds)
    assert (await queue.submit(three_at_once(site))).outcome == "routed"
    with pytest.raises(TooLargeToWait, match=excess):
        await queue.submit(three_at_once(site))


async def test_a_request_that_alone_could_wait_is_asked_back(site: Site) -> None:
    await site.beat("w", slots="1")
    queue = await site.gateway(bounds=jobs.Bounds(jobs=1, tenant_bytes=10**6))
    await site.put("running", "waiting")
    with pytest.raises(Overloaded, match="is full"):
        await queue.submit(site.submission(10))


async def test_a_queued_request_is_told_its_place_and_wait(site: Site) -> None:
    await site.beat("w", slots="2", job_seconds="4")
    queue = await site.gateway()
    await site.put(*(f"j{i}" for i in range(5)), tenant="acme")
    one = site.submission(10, tenant="acme")
    admission = await queue.submit(one)
    assert (admission.outcome, admission.position, admission.wait, admission.workers) == ("queued", 4, 8.0, 1)
    reading = asyncio.create_task(read(queue, one))
    now = queue.waiting(one.jobs[0][0])
    assert now is not None and (now.position, now.wait, now.workers) == (4, 8.0, 1)
    assert [claimed.id for claimed in await site.claim("w", 4)] == ["j0", "j1", "j2", "j3"]

    def moved_up() -> bool:
        now = queue.waiting(one.jobs[0][0])
        return now is not None and now.position == 2

    await wait_until(moved_up)
    await site.claim("w", 2)
    await wait_until(lambda: queue.waiting(one.jobs[0][0]) is None)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
