"""A worker sends what nobody reads token by token in pieces; its first token and its end go at once."""

import asyncio
from time import monotonic

import msgspec
import pytest

from millstream.common.broker import jobs, workers
from millstream.common.broker.chunks import read_log
from millstream.common.chunk import NOTHING_YET, Chunk, Start, decode_chunk
from millstream.common.job import GatewayId, JobId, JobRequest, Lease
from millstream.gateway.queue.client import Submission
from millstream.worker.jobs import outbox, running_jobs
from millstream.worker.jobs.running_jobs import PIECE_SECONDS, PIECE_TOKENS, RunningJob
from tests.harness.queue_site import MODEL, Site, chunks_of, request
from tests.harness.support import wait_until

UNWATCHED = msgspec.structs.replace(request(300), watched=False)
ENVELOPE = jobs.Envelope(GatewayId("g"), "acme", "default", timeout_ms=60_000, retention_ms=60_000)


async def put(site: Site, id: str, asked: JobRequest) -> None:
    await jobs.submit(site.broker, MODEL, ENVELOPE, [jobs.NewJob(JobId(id), asked)])


async def log_of(site: Site, id: str) -> list[Chunk]:
    return [decode_chunk(raw) for _, raw in await read_log(site.broker, MODEL, JobId(id), NOTHING_YET)]


async def tokens_logged(site: Site, id: str) -> int:
    return sum(chunk.tokens for chunk in await log_of(site, id))


async def settled(site: Site, id: str) -> None:
    async def over() -> bool:
        return (await site.job(id))["state"] == "finished"

    await wait_until(over, what=f"{id} ends")


def held(watched: bool = False, earlier: int = 0) -> RunningJob:
    asked = msgspec.structs.replace(UNWATCHED, watched=watched)
    job = RunningJob(workers.Claimed(JobId("j"), MODEL, Lease("1:w"), NOTHING_YET, 0, 0, asked))
    job.tokens, job.earlier = list(range(earlier)), earlier
    return job


def make(job: RunningJob, count: int = 1) -> None:
    for token in range(count):
        job.tokens.append(token)
        job.draft(Chunk(ids=[token], text="a"))


def taken(job: RunningJob) -> None:
    job.acked = len(job.take_step().chunks) + job.acked
    job.sent_at = monotonic()


@pytest.mark.parametrize("earlier", [0, 40])
def test_the_first_token_of_a_lease_has_its_time(earlier: int) -> None:
    job = held(earlier=earlier)
    job.draft(Chunk(start=Start(prompt_tokens=1)))
    taken(job)
    assert job.first_after is None, "the prompt was accepted, no more"
    make(job)
    taken(job)
    first = job.first_after
    make(job)
    taken(job)
    assert first is not None and job.first_after == first


@pytest.mark.parametrize("earlier", [0, 40])
def test_the_first_token_of_a_lease_goes_at_once_and_the_next_are_held_back(earlier: int) -> None:
    job = held(earlier=earlier)
    if not earlier:
        job.draft(Chunk(start=Start(prompt_tokens=1)))
        assert job.urgent
        taken(job)
    make(job)
    assert job.urgent
    taken(job)
    make(job)
    assert not job.urgent and not job.piece_due(job.sent_at)
    assert job.piece_due(job.sent_at + PIECE_SECONDS)
    make(job, PIECE_TOKENS)
    assert job.piece_due(job.sent_at)


def test_an_end_and_what_redis_has_lost_are_never_held_back() -> None:
    job = held()
    make(job)
    taken(job)
    job.acked = 0
    assert job.urgent
    job.acked = 1
    make(job)
    job.finish(workers.End("finished", "stop", b"{}", 2), Chunk(finish="stop"))
    assert job.urgent


def test_every_token_of_a_stream_goes_at_once() -> None:
    job = held(watched=True)
    for _ in range(3):
        make(job)
        assert job.urgent
        taken(job)


async def test_the_same_answer_in_a_few_chunks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_jobs, "PIECE_SECONDS", 3600.0)  # else a slow machine's pieces would be smaller
    monkeypatch.setattr(outbox, "PIECE_SECONDS", 3600.0)
    await site.worker("w1", rate=400)
    await put(site, "stream", msgspec.structs.replace(UNWATCHED, watched=True))
    await put(site, "whole", UNWATCHED)
    await settled(site, "stream")
    await settled(site, "whole")
    stream, whole = await log_of(site, "stream"), await log_of(site, "whole")
    assert "".join(chunk.text for chunk in whole) == "".join(chunk.text for chunk in stream)
    assert [token for chunk in whole for token in chunk.ids] == [token for chunk in stream for token in chunk.ids]
    assert len(whole) <= 4 + 300 // PIECE_TOKENS, "the start, the first token, pieces, the rest, the end"


async def test_a_slow_answer_grows_though_no_other_token_comes(site: Site) -> None:
    await site.worker("w1", rate=3)
    await put(site, "j", UNWATCHED)
    await wait_until(lambda: grown(site, "j", 4), within=20, what="a second piece is in the log")
    assert all(chunk.finish is None for chunk in await log_of(site, "j"))


async def grown(site: Site, id: str, tokens: int) -> bool:
    return await tokens_logged(site, id) >= tokens


async def test_who_reads_it_as_a_stream_meanwhile_gets_each_token_once(site: Site) -> None:
    await site.worker("w1", rate=150)
    first, second = await site.gateway(), await site.gateway()
    await first.submit(Submission(MODEL, [(JobId("j"), UNWATCHED)]))
    early = asyncio.create_task(chunks_of(first, JobId("j")))
    await wait_until(lambda: grown(site, "j", 20), what="a piece is in the log")
    late = await chunks_of(second, JobId("j"))
    assert late == await log_of(site, "j") == await early
    assert sum(chunk.tokens for chunk in late) == 300


async def test_a_job_that_is_asked_back_takes_its_tokens_to_the_log(site: Site) -> None:
    await site.worker("w1", rate=40)
    await put(site, "j", UNWATCHED)
    await wait_until(lambda: grown(site, "j", 20), what="the first piece by time is in the log")
    before = await log_of(site, "j")
    await asyncio.sleep(PIECE_SECONDS / 2)
    assert await jobs.recall(site.broker, MODEL, "", JobId("j")) == "requeueing"
    await wait_until(lambda: claimed_again(site, "j"), what="it goes on under a new lease")
    assert int((await site.job("j"))["from"]) > len(before), "what was held back is in the log at its new claim"


async def claimed_again(site: Site, id: str) -> bool:
    return (await site.job(id)).get("grant") == "2"
