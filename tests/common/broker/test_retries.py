"""A request of which only a part is left in Redis: it is sent again, or goes on."""

import pytest

from millstream.common.broker import chunks, jobs, keys, workers
from millstream.common.broker.connection.broker import Broker
from millstream.common.chunk import Seq
from millstream.common.job import JobId, WorkerId
from tests.common.broker.test_life_of_a_job import ABOUT, LEASE_MS, MODEL, claim, load_of, register, step, submit


async def two_of_one_request(broker: Broker, settled: int) -> WorkerId:
    """A request of two jobs that a worker holds, the first `settled` of them finished; and the first has expired."""
    worker = await register(broker, "w1")
    await submit(broker, "r-0", "r-1")
    for job in (await claim(broker, worker))[:settled]:
        await step(broker, worker, job, 1, "x", last=True)
    await broker.redis.delete(keys.job(MODEL, JobId("r-0")), keys.chunks(MODEL, JobId("r-0")))
    return worker


async def test_a_retry_makes_anew_what_is_left_of_a_request_whose_first_job_has_expired(broker: Broker) -> None:
    worker = await two_of_one_request(broker, settled=2)
    assert (await submit(broker, "r-0", "r-1")).outcome == "routed"
    assert [await broker.redis.pttl(keys.job(MODEL, JobId(id))) for id in ("r-0", "r-1")] == [-1, -1]
    again = await claim(broker, worker)
    assert [(job.id, job.seq) for job in again] == [("r-0", 0), ("r-1", 0)]
    for job in again:
        assert await step(broker, worker, job, 1, "x", last=True) == ("ok", 1)
    log = await chunks.read_log(broker, MODEL, JobId("r-1"), Seq(0))
    assert len(log) == 1
    assert await load_of(broker, "w1") == 0 and not await broker.redis.exists(keys.waiting(MODEL))
    assert await broker.redis.pttl(keys.job(MODEL, JobId("r-1"))) > 0


async def test_a_retry_leaves_alone_what_is_under_way_of_a_request_whose_first_job_has_expired(broker: Broker) -> None:
    worker = await two_of_one_request(broker, settled=1)
    assert (await submit(broker, "r-0", "r-1")).outcome == "routed"
    assert [job.id for job in await claim(broker, worker)] == ["r-0"]
    assert (await jobs.read(broker, MODEL, JobId("r-1")))["lease"] == "1:w1"
    assert await load_of(broker, "w1") == 2
    assert (await submit(broker, "r-0", "r-1")).outcome == "duplicate"


@pytest.mark.parametrize("who", ["step", "beat"])
async def test_a_fence_that_somebody_deleted_is_written_anew(broker: Broker, who: str) -> None:
    worker = await register(broker, "w1")
    await submit(broker, "j1")
    [job] = await claim(broker, worker)
    await broker.redis.delete(keys.fences(MODEL, worker))
    if who == "beat":
        pulse = await workers.beat(broker, MODEL, worker, LEASE_MS, ABOUT, [job.id])
        assert (pulse.lost, pulse.unknown) == ([], [])
    assert await step(broker, worker, job, 1, "a") == ("ok", 1)
    assert await step(broker, worker, job, 2, "b", last=True) == ("ok", 2)
    assert await load_of(broker, "w1") == 0


async def test_a_job_that_somebody_deleted_costs_its_worker_nothing(broker: Broker) -> None:
    worker = await register(broker, "w1")
    await submit(broker, "j1")
    [job] = await claim(broker, worker)
    await broker.redis.delete(keys.job(MODEL, job.id))
    assert await step(broker, worker, job, 1, "a") == ("ok", 1)
    assert await step(broker, worker, job, 2, "b", last=True) == ("fenced", 2)
    assert await load_of(broker, "w1") == 0
    assert await broker.redis.pttl(keys.chunks(MODEL, job.id)) > 0
    await submit(broker, "j1")
    assert (await jobs.read(broker, MODEL, job.id))["state"] == "queued"
    assert await chunks.read_log(broker, MODEL, job.id, Seq(0)) == []
