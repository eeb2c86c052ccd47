"""The spans of jobs that no worker ended, written by who followed them."""

import asyncio

import msgspec

from millstream.common.broker import jobs, keys, workers
from millstream.common.broker.upkeep import UpkeepRules, keep_up
from millstream.common.job import GatewayId, JobId, WorkerId
from millstream.common.tracing.span import SpanRecord
from millstream.gateway.queue.redis_client import RedisQueueClient
from millstream.gateway.queue.untold_endings import UntoldEndings, untold
from tests.harness.collected_spans import CollectedSpans
from tests.harness.queue_site import MODEL, Site, chunks_of, request
from tests.harness.support import wait_until

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACED = msgspec.structs.replace(request(8), traceparent=PARENT)


def shown(spans: list[SpanRecord]) -> list[tuple[str, str]]:
    return [(span.name, span.error) for span in spans]


async def failing(site: Site, queue: RedisQueueClient, timeout: float = 60.0) -> asyncio.Task[None]:
    """Follows one job that will fail."""
    submission = site.submission(timeout=timeout)
    submission.jobs[0] = (submission.jobs[0][0], TRACED)
    await queue.submit(submission)

    async def follow() -> None:
        chunks = await chunks_of(queue, submission.jobs[0][0])
        assert chunks[-1].error is not None

    return asyncio.create_task(follow())


async def test_a_job_whose_deadline_passes_while_it_waits(site: Site) -> None:
    collected = CollectedSpans()
    await site.beat("w")
    queue = await site.gateway(spans=collected)
    await site.put("other")  # takes the only slot
    await site.claim("w")
    following = await failing(site, queue, timeout=0.05)
    await following_ends(site, following)
    await wait_until(lambda: collected.spans)
    assert shown(collected.spans) == [("queue wait", "no worker took it any more")]


async def test_a_job_whose_deadline_passes_while_it_runs(site: Site) -> None:
    collected = CollectedSpans()
    await site.beat("w")
    queue = await site.gateway(spans=collected)
    following = await failing(site, queue, timeout=1)
    assert await site.claim("w")
    await following_ends(site, following)
    await wait_until(lambda: len(collected.spans) == 2)
    assert shown(collected.spans) == [("queue wait", ""), ("attempt 1", "expired")]


async def following_ends(site: Site, following: asyncio.Task[None]) -> None:
    """Waits for the end of a job whose deadline passes, doing the upkeep meanwhile."""
    while not following.done():
        await keep_up(site.broker, MODEL, UpkeepRules(3))
        await asyncio.wait([following], timeout=0.02)
    await following


async def test_a_job_that_was_buried(site: Site) -> None:
    collected = CollectedSpans()
    queue = await site.gateway(spans=collected)
    await site.beat("w1")
    following = await failing(site, queue)
    for worker in ("w1", "w2"):
        await site.beat(worker)
        await wait_until(lambda worker=worker: site.claim(worker))
        await workers.evict_now(site.broker, MODEL, WorkerId(worker), max_attempts=2)
    await following
    await wait_until(lambda: len(collected.spans) == 4)
    assert shown(collected.spans) == [
        ("queue wait", ""),
        ("attempt 1", "worker lost"),
        ("queue wait", ""),
        ("attempt 2", "worker lost"),
    ]


async def test_what_a_worker_ended_or_what_is_not_over_is_not_told(site: Site) -> None:
    await site.beat("w", slots="2")
    await site.put("running", "finished")
    claimed = {job.id: job for job in await site.claim("w", 2)}
    await site.finish("w", claimed[JobId("finished")])
    for id in ("running", "finished"):
        assert untold(MODEL, JobId(id), await site.job(id)) == []
    assert untold(MODEL, JobId("nobody"), {}) == []


async def test_a_hash_that_cannot_be_read_ends_nothing(site: Site) -> None:
    collected = CollectedSpans()
    endings = UntoldEndings(site.broker, collected)
    looking = asyncio.create_task(endings.run())
    await site.broker.redis.hset(keys.job(MODEL, JobId("odd")), mapping={"state": "failed", "lease": "2:-"})  # type: ignore[misc]
    envelope = jobs.Envelope(GatewayId("g"), "acme", "default", timeout_ms=60_000, retention_ms=60_000)
    await jobs.submit(site.broker, MODEL, envelope, [jobs.NewJob(JobId("waiting"), TRACED)])
    await jobs.cancel(site.broker, MODEL, "", [JobId("waiting")])
    endings.note(MODEL, [JobId("odd"), JobId("waiting")])
    await wait_until(lambda: collected.spans)
    assert not looking.done()
    looking.cancel()


async def test_a_request_too_large_to_be_kept_tells_nothing(site: Site) -> None:
    large = msgspec.structs.replace(request(8, "x" * (1 << 20)), traceparent=PARENT)
    envelope = jobs.Envelope(GatewayId("nobody"), "acme", "default", timeout_ms=60_000, retention_ms=60_000)
    await jobs.submit(site.broker, MODEL, envelope, [jobs.NewJob(JobId("large"), large)])
    assert len((await site.job("large"))["request"]) > 1 << 20
    await jobs.cancel(site.broker, MODEL, "", [JobId("large")])
    fields = await site.job("large")
    assert (fields["state"], fields["request"]) == ("cancelled", "")
    assert untold(MODEL, JobId("large"), fields) == []
