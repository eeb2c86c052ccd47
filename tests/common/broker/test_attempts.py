"""The deaths of workers that count: attempts without progress, jobs on their last try, and what was used so far."""

import asyncio
import json

import pytest

from millstream.common.broker import jobs, workers
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.upkeep import UpkeepRules, keep_up
from millstream.common.chunk import Chunk, Seq, Start, encode_chunk
from millstream.common.job import JobId
from tests.common.broker.test_life_of_a_job import MODEL, claim, load_of, register, step, submit


async def test_a_death_after_progress_is_no_attempt(broker: Broker) -> None:
    await submit(broker, "j1")
    seq = 0
    for number in range(5):
        worker = await register(broker, f"w{number}")
        [job] = await claim(broker, worker)
        assert (job.seq, job.attempt) == (seq, 0)
        for _ in range(2):
            seq += 1
            await step(broker, worker, job, seq, "x")
        await workers.evict_now(broker, MODEL, worker, max_attempts=3)
    job = await jobs.read(broker, MODEL, JobId("j1"))
    assert (job["state"], job["attempt"]) == ("queued", "0")


async def test_the_chunk_that_says_a_prompt_was_accepted_is_no_progress(broker: Broker) -> None:
    await submit(broker, "j1")
    worker = await register(broker, "w1")
    [job] = await claim(broker, worker)
    await step(broker, worker, job, 1, "start")
    await workers.evict_now(broker, MODEL, worker, max_attempts=3)
    assert (await jobs.read(broker, MODEL, JobId("j1")))["attempt"] == "1"


async def suspects(broker: Broker, *names: str) -> None:
    """Jobs whose workers died with them twice."""
    for name in names:
        await submit(broker, name)
    for number in range(2):
        worker = await register(broker, f"dead{number}", slots=8)
        assert len(await claim(broker, worker, 8)) == len(names)
        await workers.evict_now(broker, MODEL, worker, max_attempts=3)


async def test_jobs_on_their_last_try_do_not_share_a_worker(broker: Broker) -> None:
    await suspects(broker, "killer", "innocent")
    worker = await register(broker, "w1", slots=8)
    [first] = await claim(broker, worker, 8)
    assert await claim(broker, worker, 8) == [], "until the one it has gets further"
    await step(broker, worker, first, 1, "start")
    await step(broker, worker, first, 2, "a")
    [second] = await claim(broker, worker, 8)
    assert {first.id, second.id} == {"killer", "innocent"}


async def test_the_last_try_of_a_job_that_kills_takes_no_other_with_it(broker: Broker) -> None:
    await suspects(broker, "killer", "innocent")
    worker = await register(broker, "w1", slots=8)
    [first] = await claim(broker, worker, 8)
    await workers.evict_now(broker, MODEL, worker, max_attempts=3)
    heir = await register(broker, "w2", slots=8)
    [second] = await claim(broker, heir, 8)
    states = {id: (await jobs.read(broker, MODEL, JobId(id)))["state"] for id in ("killer", "innocent")}
    assert states == {first.id: "failed", second.id: "running"}


async def test_a_job_on_its_last_try_comes_to_a_worker_that_sleeps(broker: Broker) -> None:
    await suspects(broker, "j1", "j2")
    worker, other = await register(broker, "w1", slots=8), await register(broker, "w2", slots=8)
    await keep_up(broker, MODEL, UpkeepRules(3))
    found = {len(await claim(broker, each, 8)) for each in (worker, other)}
    assert found == {1}, "one for each"


async def test_tokens_that_left_in_pieces_count_each(broker: Broker) -> None:
    worker = await register(broker, "w1")
    await submit(broker, "j1", timeout_ms=300)
    [job] = await claim(broker, worker)
    pieces = [Chunk(ids=[7], text="a"), Chunk(ids=[1, 22, 3], text='"ids":[1,2]'), Chunk(count=5, text='"count":9}')]
    chunks = [encode_chunk(each) for each in (Chunk(start=Start(prompt_tokens=7)), *pieces)]
    await workers.step(broker, MODEL, worker, [workers.JobStep(job.id, job.lease, Seq(1), chunks)])
    await asyncio.sleep(0.35)
    await keep_up(broker, MODEL, UpkeepRules(3))
    told = await jobs.read(broker, MODEL, JobId("j1"))
    assert (told["state"], told["tokens"]) == ("expired", str(7 + 1 + 3 + 5))


@pytest.mark.parametrize(
    ("start", "counted"), [(b'{"start":{"prompt_tokens":7}}', 7), (b'{"start":{"prompt_tokens":7,"repeats":true}}', 0)]
)
async def test_what_a_deadline_cuts_off_costs_its_prompt_too(broker: Broker, start: bytes, counted: int) -> None:
    worker = await register(broker, "w1")
    await submit(broker, "j1", timeout_ms=300)
    [job] = await claim(broker, worker)
    made = workers.JobStep(job.id, job.lease, Seq(1), [start, b'{"text":"a"}', b'{"text":"b"}'])
    await workers.step(broker, MODEL, worker, [made])
    await asyncio.sleep(0.35)
    await keep_up(broker, MODEL, UpkeepRules(3))
    told = await jobs.read(broker, MODEL, JobId("j1"))
    assert (told["state"], told["tokens"]) == ("expired", str(counted + 2))
    assert json.loads(told["usage"]) == {"prompt": counted, "completion": 2}


async def test_work_lost_without_its_worker_counts_as_often_as_it_is_said_to(broker: Broker) -> None:
    """The worker goes on with its other jobs; the one that kills whatever computes it ends at last."""
    worker = await register(broker, "w1")
    await submit(broker, "j1")
    for _ in range(5):
        [job] = await claim(broker, worker)
        assert await workers.retry(broker, MODEL, worker, [(job.id, job.lease)], 0, 3) == ["queued"]
    for _ in range(3):
        [job] = await claim(broker, worker)
        assert await workers.retry(broker, MODEL, worker, [(job.id, job.lease)], 1, 3) == ["queued"]
        assert await workers.retry(broker, MODEL, worker, [(job.id, job.lease)], 1, 3) == ["fenced"]
    assert (await jobs.read(broker, MODEL, JobId("j1")))["state"] == "failed"
    assert await load_of(broker, "w1") == 0
