"""The books of a run that is longer than the retention: jobs go by themselves while the books are read."""

from millstream.bench.chaos.books import wrong_books
from millstream.bench.chaos.site import MODEL
from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker
from millstream.common.job import JobId

JOBS = 2000  # more than are read in the time that they have


async def test_a_job_whose_retention_ends_meanwhile_is_not_wrong(redis_url: str) -> None:
    async with Broker(redis_url) as broker:
        pipe = broker.redis.pipeline(transaction=False)
        for number in range(JOBS):
            name = keys.job(MODEL, JobId(f"chatcmpl-{number}"))
            pipe.hset(name, "state", "finished")
            pipe.pexpire(name, 300 + number % 400)
        await pipe.execute()
        assert await wrong_books(broker) == []


async def test_a_job_without_an_end_is_wrong(redis_url: str) -> None:
    async with Broker(redis_url) as broker:
        half, running = (keys.job(MODEL, JobId(f"chatcmpl-{name}")) for name in ("half", "running"))
        await broker.redis.hset(half, "leases", "x")  # type: ignore[misc]
        await broker.redis.hset(running, "state", "running")  # type: ignore[misc]
        for name in (half, running):
            await broker.redis.pexpire(name, 60_000)
        assert sorted(await wrong_books(broker)) == sorted([f"{half} is None", f"{running} is running"])
