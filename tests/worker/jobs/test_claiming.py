"""A worker comes by its jobs: its inbox rings, a claim takes what is there."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from millstream.common.broker import keys, workers
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.control import Doorbell
from millstream.common.job import JobId, ModelName, WorkerId
from millstream.common.process.backoff import Backoff
from millstream.worker.jobs import consumer as claiming
from millstream.worker.jobs.consumer import Consumer
from millstream.worker.jobs.outbox import Outbox
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
async def consuming(
    site: Site, bell: Doorbell, running_jobs: RunningJobs | None = None, slots: int = 9
) -> AsyncGenerator[tuple[Consumer, Begun]]:
    begun = Begun()
    held = RunningJobs() if running_jobs is None else running_jobs
    consumer = Consumer(site.broker, MODEL, WORKER, held, lambda: slots, begun)
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


class Holding:
    """The jobs of a worker, and the outbox through which it ends them."""

    def __init__(self, site: Site) -> None:
        self.jobs = RunningJobs()
        self._outbox = Outbox(site.broker, MODEL, WORKER, self.jobs, lambda job, answer: None)

    async def end(self, id: str) -> None:
        """Ends a job, and returns when Redis knows and it is held no more."""
        job = self.jobs.by_id(JobId(id))
        assert job is not None
        job.finish(workers.End("finished", "stop", b"{}", 1))
        loop = asyncio.create_task(self._outbox.run())
        self._outbox.ring()
        await wait_until(lambda: not self.jobs.has(job))
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The room of every claim that was made."""
    made: list[int] = []

    async def counted(broker: Broker, model: ModelName, worker: WorkerId, room: int) -> workers.Claim:
        made.append(room)
        return await workers.claim(broker, model, worker, room)

    monkeypatch.setattr(claiming, "claim", counted)
    return made


async def test_a_freed_slot_is_claimed_for_only_if_somebody_waits(site: Site, claims: list[int]) -> None:
    await site.beat(WORKER, slots="2")
    holding = Holding(site)
    async with consuming(site, Doorbell(site.broker.url, MODEL, WORKER), holding.jobs, slots=2) as (_, begun):
        await site.put("a", "b", "c")
        await wait_until(lambda: begun.jobs == ["a", "b"])
        await holding.end("a")
        await wait_until(lambda: begun.jobs == ["a", "b", "c"])
        before = len(claims)
        await holding.end("b")
        await holding.end("c")
        await site.put("d")  # handed to the worker, whose inbox rings
        await wait_until(lambda: "d" in begun.jobs)
        assert claims[before:] == [2]


async def test_a_job_of_a_lower_tier_waits_for_a_slot_that_is_not_reserved(site: Site) -> None:
    await site.broker.redis.hset(keys.policy(MODEL), "reserve", "1")  # type: ignore[misc]
    await site.beat(WORKER, slots="2")
    holding = Holding(site)
    async with consuming(site, Doorbell(site.broker.url, MODEL, WORKER), holding.jobs, slots=2) as (_, begun):
        await site.put("a", "b", tier="flex")
        await wait_until(lambda: begun.jobs == ["a"])
        await holding.end("a")
        await wait_until(lambda: begun.jobs == ["a", "b"])


async def test_what_rang_while_there_was_no_room_is_claimed_when_there_is(site: Site) -> None:
    await site.beat(WORKER, slots="9")
    running_jobs = RunningJobs()
    async with consuming(site, Doorbell(site.broker.url, MODEL, WORKER), running_jobs, slots=1) as (_, begun):
        await site.put("a")
        await wait_until(lambda: begun.jobs == ["a"])
        await site.put("b")
        await wait_until(lambda: running_jobs.rung_in_vain)
        job = running_jobs.by_id(JobId("a"))
        assert job is not None
        running_jobs.remove(job, claim=False)  # nobody waited when Redis settled it: the ring came later
        await wait_until(lambda: begun.jobs == ["a", "b"])
