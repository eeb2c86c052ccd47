"""Batch work beside chat, with workers that compute: slots change hands and not a token is lost."""

import asyncio
from itertools import pairwise

from millstream.common.chunk import Chunk
from millstream.common.hashchain import chain_next
from millstream.gateway.queue.client import Submission
from millstream.gateway.queue.redis_client import RedisQueueClient
from tests.harness.queue_site import MODEL, Site, chunks_of
from tests.harness.support import wait_until


async def answer(dispatch: RedisQueueClient, submission: Submission) -> list[Chunk]:
    """All chunks of one job, in order."""
    await dispatch.submit(submission)
    return await chunks_of(dispatch, submission.jobs[0][0], tenant=submission.tenant)


def tokens(chunks: list[Chunk]) -> list[int]:
    return [token for chunk in chunks for token in chunk.ids]


def unbroken(ids: list[int]) -> bool:
    """Every token follows from the one before it."""
    return all(chain_next(one) == other for one, other in pairwise(ids))


async def test_batch_jobs_give_way_to_chat_and_go_on_where_they_stopped(site: Site) -> None:
    await site.worker("w", slots=2, rate=150)
    dispatch = await site.gateway()
    batch = [asyncio.create_task(answer(dispatch, site.submission(150, tier="batch"))) for _ in range(2)]
    await wait_until(lambda: _running(site, "job-1", "job-2"))

    chats = await asyncio.gather(*(answer(dispatch, site.submission(5)) for _ in range(4)))
    assert [len(tokens(chunks)) for chunks in chats] == [5] * 4
    assert not any(task.done() for task in batch)

    async with asyncio.timeout(30):
        ends = await asyncio.gather(*batch)
    for chunks in ends:
        ids = tokens(chunks)
        assert len(ids) == 150 and unbroken(ids)
        assert chunks[-1].finish == "length"
    jobs = [await site.job(id) for id in ("job-1", "job-2")]
    assert [job["attempt"] for job in jobs] == ["0", "0"]
    assert any(int(job["grant"]) > 1 for job in jobs)
    await wait_until(lambda: _idle(site))


async def test_a_tenant_above_its_share_gives_slots_back_and_its_answers_are_whole(site: Site) -> None:
    await site.worker("w", slots=2, rate=300, fair_after=0.1)
    dispatch = await site.gateway()
    hog = [asyncio.create_task(answer(dispatch, site.submission(1200, tenant="hog"))) for _ in range(2)]
    await wait_until(lambda: _running(site, "job-1", "job-2"))

    good = await answer(dispatch, site.submission(5, tenant="good"))
    assert len(tokens(good)) == 5

    async with asyncio.timeout(30):
        ends = await asyncio.gather(*hog)
    for chunks in ends:
        ids = tokens(chunks)
        assert len(ids) == 1200 and unbroken(ids)
        assert chunks[-1].usage is not None and chunks[-1].usage.completion == 1200
    jobs = [await site.job(id) for id in ("job-1", "job-2")]
    assert {job["attempt"] for job in jobs} == {"0"} and any("gave_way" in job for job in jobs)
    await wait_until(lambda: _idle(site))


async def _running(site: Site, *ids: str) -> bool:
    return all([(await site.job(id)).get("state") == "running" for id in ids])


async def _idle(site: Site) -> bool:
    return not any((await site.load()).values())


async def test_load_is_exact_after_cancels_preemptions_and_several_gateways(site: Site) -> None:
    for name, slots in (("a", 2), ("b", 3)):
        await site.worker(name, slots=slots, rate=400)
    dispatches = [await site.gateway() for _ in range(3)]
    made = [site.submission(40, tier=("batch", "default", "flex")[i % 3]) for i in range(45)]
    running = [asyncio.create_task(answer(dispatches[i % 3], one)) for i, one in enumerate(made)]
    await wait_until(lambda: _running(site, "job-2"))
    for i in range(0, 45, 5):
        await dispatches[(i + 1) % 3].cancel(MODEL, [made[i].jobs[0][0]])
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*running)
    for i, chunks in enumerate(ends):
        ids = tokens(chunks)
        assert unbroken(ids)
        assert len(ids) == 40 or (i % 5 == 0 and chunks[-1].error is not None)
    await wait_until(lambda: _idle(site))
