"""A job goes only to a worker that can run it: whose context holds it, and who is the model that began it."""

from millstream.common.broker import workers
from millstream.common.broker.chunks import read_log
from millstream.common.broker.models.directory import model_info
from millstream.common.chunk import Chunk, Seq, Start, decode_chunk, encode_chunk
from tests.harness.queue_site import MODEL, Site

START = encode_chunk(Chunk(start=Start(prompt_tokens=1, fingerprint="fp_old")))
TOKEN = encode_chunk(Chunk(text="a", ids=[1]))


async def begin(site: Site, worker: str, id: str, chunks: int = 2) -> workers.Claimed:
    """Let the worker claim the job and log some chunks of it."""
    await site.put(id)
    [job] = await site.claim(worker)
    step = workers.JobStep(job.id, job.lease, Seq(1), [START, TOKEN][:chunks])
    await workers.step(site.broker, MODEL, job.worker, [step])
    return job


async def test_a_begun_job_goes_to_a_worker_like_the_one_that_began_it(site: Site) -> None:
    await site.beat("one", fingerprint="fp_old")
    job = await begin(site, "one", "j")
    await site.beat("other", fingerprint="fp_new", speed="1000")
    await site.beat("like", fingerprint="fp_old", speed="1")
    await workers.withdraw(site.broker, MODEL, job.worker)
    assert await site.claim("other") == []
    [again] = await site.claim("like")
    assert (again.id, again.seq) == ("j", 2)


async def test_it_waits_for_one_like_it_that_is_busy(site: Site) -> None:
    await site.beat("one", fingerprint="fp_old")
    job = await begin(site, "one", "j")
    await site.beat("other", fingerprint="fp_new", slots="4")
    await site.beat("like", fingerprint="fp_old", state="sick")
    await workers.withdraw(site.broker, MODEL, job.worker)
    assert await site.claim("other", 4) == []
    assert (await site.job("j"))["where"] == "resume:parked"
    assert (await model_info(site.broker, MODEL)).waiting == 1
    await site.put("fresh")  # which has not begun, and goes to any
    assert [each.id for each in await site.claim("other", 4)] == ["fresh"]
    assert [each.id for each in await site.claim("like")] == ["j"]
    assert (await model_info(site.broker, MODEL)).waiting == 0


async def test_without_one_like_it_the_job_ends_with_the_reason(site: Site) -> None:
    await site.beat("one", fingerprint="fp_old")
    job = await begin(site, "one", "j")
    await workers.withdraw(site.broker, MODEL, job.worker)
    assert (await site.job("j"))["state"] == "queued"  # while there is nobody it waits
    await site.beat("other", fingerprint="fp_new")
    assert await site.claim("other") == []
    told = await site.job("j")
    assert told["state"] == "failed" and "fp_new, not fp_old" in told["error"]
    [_, (_, last)] = await read_log(site.broker, MODEL, job.id, Seq(1))
    error = decode_chunk(last).error
    assert error is not None and error.code == "worker_lost"


async def test_a_parked_job_ends_when_the_last_worker_like_it_is_gone(site: Site) -> None:
    await site.beat("one", fingerprint="fp_old")
    job = await begin(site, "one", "j")
    await site.beat("other", fingerprint="fp_new")
    await site.beat("like", fingerprint="fp_old", state="sick")
    await workers.withdraw(site.broker, MODEL, job.worker)
    assert await site.claim("other") == []
    await workers.withdraw(site.broker, MODEL, (await site.beat("like", fingerprint="fp_old")))
    assert await site.claim("other") == []
    assert (await site.job("j"))["state"] == "failed"


async def test_a_job_whose_prompt_alone_was_accepted_begins_anew_anywhere(site: Site) -> None:
    await site.beat("one", fingerprint="fp_old")
    job = await begin(site, "one", "j", chunks=1)
    await site.beat("other", fingerprint="fp_new")
    await workers.withdraw(site.broker, MODEL, job.worker)
    assert [each.id for each in await site.claim("other")] == ["j"]


async def test_a_job_that_is_too_long_here_goes_to_a_worker_it_fits(site: Site) -> None:
    await site.beat("short", context_length="500")
    await site.put("too-long")
    [job] = await site.claim("short")
    assert await workers.pass_on(site.broker, job, 2500) == 500  # the longest there is
    await site.beat("long", context_length="20000", slots="2", speed="1")
    await site.beat("short", context_length="500", slots="2", speed="1000")
    await site.put("j")
    [job] = await site.claim("short")
    assert await workers.pass_on(site.broker, job, 2500) is None
    assert await site.claim("short", 2) == []
    assert [each.id for each in await site.claim("long", 2)] == ["j"]
    assert (await model_info(site.broker, MODEL)).context_length == 20000
