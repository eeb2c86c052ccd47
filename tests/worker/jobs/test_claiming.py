"""A worker comes by its jobs: its inbox rings, a claim takes what is there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from millstream.common.broker import keys
from millstream.common.broker.control import Doorbell
from millstream.common.job import JobId, WorkerId
from millstream.common.process.backoff import Backoff
from millstream.worker.jobs.consumer import Consumer
from millstream.worker.jobs.running_jobs import RunningJob, RunningJobs
from tests.harness.queue_site import MODEL, Site
from tests.harness.support import wait_until

WORKER = WorkerId("w1")


class Begun:
    """Runs nothing; remembers what it was given."""

    def __init__(self) -> None:
        self.jobs: list[JobId] = []

    def begin(self, job: RunningJob) -> None:
        self.jobs.append(job.claimed.id)

    def drop(self, job: RunningJob) -> None:
        raise AssertionError(f"{job.claimed.id} was claimed once only")


class SlowBell(Doorbell):
    """While `slow`, it tells of what it found only after that has been claimed."""

    slow = False

    async def ring(self) -> str:
        first = await super().ring()
        while first and self.slow and await self._client.exists(self._inbox):  # noqa: ASYNC110 (Redis rings no event)
            await asyncio.sleep(0)
        return first


@asynccontextmanager
async def consuming(site: Site, bell: Doorbell) -> AsyncIterator[tuple[Consumer, Begun]]:
    begun = Begun()
    consumer = Consumer(site.broker, MODEL, WORKER, RunningJobs(), lambda: 9, begun)
    loops = [asyncio.create_task(consumer.run()), asyncio.create_task(consumer.listen(bell))]
    try:
        yield consumer, begun
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await bell.aclose()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause that was taken before trying again."""
    taken: list[float] = []

    async def sleep(self: Backoff) -> None:
        taken.append(self.take())
        await asyncio.sleep(0.01)

    monkeypatch.setattr(Backoff, "sleep", sleep)
    return taken


async def test_a_ring_for_what_was_claimed_meanwhile_does_not_keep_the_next_job_waiting(
    site: Site, pauses: list[float]
) -> None:
    await site.beat(WORKER, slots="9")
    bell = SlowBell(site.broker.url, MODEL, WORKER)
    async with consuming(site, bell) as (consumer, begun):
        bell.slow = True
        for number in range(3):
            await site.put(f"early-{number}")
            consumer.wake()  # as a slot that frees does
            await wait_until(lambda: len(begun.jobs) == number + 1)  # noqa: B023 (awaited here)
        bell.slow = False
        await site.put("next")
        await wait_until(lambda: "next" in begun.jobs)
    assert pauses == []


async def test_what_cannot_be_claimed_does_not_ring_in_a_tight_loop(site: Site, pauses: list[float]) -> None:
    await site.beat(WORKER, slots="9")
    await site.put("job")
    leases = keys.leases(MODEL)
    until = await site.broker.redis.zscore(leases, WORKER)
    await site.broker.redis.zrem(leases, WORKER)
    async with consuming(site, Doorbell(site.broker.url, MODEL, WORKER)) as (_, begun):
        await wait_until(lambda: len(pauses) >= 2)
        assert begun.jobs == []
        await site.broker.redis.zadd(leases, {WORKER: until})
        await wait_until(lambda: begun.jobs == ["job"])
