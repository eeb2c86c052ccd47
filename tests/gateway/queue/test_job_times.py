"""The times of a job as its stream notes them."""

import asyncio

import msgspec

from millstream.common.broker import jobs
from millstream.common.broker.models.directory import census
from millstream.common.broker.models.inspection import backlogs, server_figures
from millstream.common.broker.workers import evict_now
from millstream.common.chunk import NOTHING_YET, Chunk, Seq, Start, encode_chunk
from millstream.common.job import GatewayId, JobId, Lease, WorkerId
from millstream.gateway.http.backlog_metrics import backlog_text
from millstream.gateway.queue.job_stream import JobStream, Origin
from millstream.gateway.queue.sink import CallbackSink
from millstream.gateway.services.metrics import Metrics
from tests.harness.queue_site import MODEL, Site, request

JOB = JobId("job-1")
ENVELOPE = jobs.Envelope(GatewayId("g"), "acme", "flex", timeout_ms=60_000, retention_ms=60_000)
START = encode_chunk(Chunk(start=Start(prompt_tokens=3)))
END = encode_chunk(Chunk(finish="stop"))


def word(number: int) -> bytes:
    return encode_chunk(Chunk(ids=[number], text="w"))


def submitted_here() -> JobStream:
    return JobStream(MODEL, JOB, "acme", NOTHING_YET, Origin(request(), ENVELOPE))


def told(job_stream: JobStream) -> str:
    metrics = Metrics()
    metrics.observe(job_stream.times)
    return metrics.text().decode()


def test_an_answer_without_trouble() -> None:
    job_stream = submitted_here()
    for seq, raw in enumerate((START, word(1), word(2), word(3), END), 1):
        job_stream.take("1:w1", seq, raw)
    text = told(job_stream)
    for name in ("queue_wait", "first_token", "answer"):
        assert f'millstream_gateway_{name}_seconds_count{{model="simulated",tier="flex"}} 1.0' in text
    assert 'millstream_gateway_token_gap_seconds_count{model="simulated"} 2.0' in text, "neither the prompt nor the end"
    assert "millstream_gateway_failover_gap_seconds_count{" not in text
    assert "millstream_gateway_lost_frames_total{" not in text


def test_pieces_of_an_answer_that_nobody_watches_are_no_gaps_between_tokens() -> None:
    unwatched = msgspec.structs.replace(request(), watched=False)
    job_stream = JobStream(MODEL, JOB, "acme", NOTHING_YET, Origin(unwatched, ENVELOPE))
    for seq, raw in enumerate((START, word(1), word(2), word(3), END), 1):
        job_stream.take("1:w1", seq, raw)
    text = told(job_stream)
    for name in ("queue_wait", "first_token", "answer"):
        assert f'millstream_gateway_{name}_seconds_count{{model="simulated",tier="flex"}} 1.0' in text
    assert "millstream_gateway_token_gap_seconds_count{" not in text


def test_the_silence_between_two_leases_is_no_gap_between_tokens() -> None:
    job_stream = submitted_here()
    for seq, raw in enumerate((START, word(1), word(2)), 1):
        job_stream.take("1:w1", seq, raw)
    job_stream.news(3, "2:")  # waits again; nobody holds it yet
    job_stream.take("2:w2", 4, word(3))
    job_stream.take("2:w2", 5, word(4))
    assert (len(job_stream.times.silences), len(job_stream.times.gaps)) == (1, 2)
    assert 'millstream_gateway_failover_gap_seconds_count{model="simulated"} 1.0' in told(job_stream)


def test_a_chunk_of_the_dead_worker_that_is_read_late_ends_no_silence() -> None:
    job_stream = submitted_here()
    job_stream.take("1:w1", 1, START)
    job_stream.news(2, "2:")
    job_stream.accept([(Seq(2), word(1))])
    assert not job_stream.times.silences
    job_stream.take("2:w2", 3, word(2))
    assert len(job_stream.times.silences) == 1


def test_lost_frames_are_counted_once_and_their_chunks_when_read() -> None:
    job_stream = submitted_here()
    job_stream.take("1:w1", 1, START)
    for seq in (3, 4):
        job_stream.take("1:w1", seq, word(seq))
    job_stream.accept([(Seq(seq), word(seq)) for seq in (2, 3, 4)])
    text = told(job_stream)
    assert 'millstream_gateway_lost_frames_total{model="simulated",sign="hole"} 1.0' in text
    assert 'millstream_gateway_repaired_chunks_total{model="simulated"} 3.0' in text
    job_stream.lagging = False
    job_stream.told(jobs.JobPosition("running", Seq(6), Lease("1:w1")), Seq(4))
    assert job_stream.times.losses["silence"] == 1


def test_of_a_job_from_elsewhere_only_the_gaps_are_known() -> None:
    job_stream = JobStream(MODEL, JOB, "acme", NOTHING_YET)
    job_stream.unsure = False
    for seq, raw in enumerate((START, word(1), word(2), END), 1):
        job_stream.take("1:w1", seq, raw)
    times = job_stream.times
    assert (times.wait, times.first_token, times.answer, len(times.gaps)) == (None, None, None, 1)


async def test_the_hub_tells_the_times_of_each_stream_that_ends(site: Site) -> None:
    await site.worker("w1")
    gateway, metrics = await site.gateway(), Metrics()
    site.hubs[-1].tell_times(metrics.observe)
    admission = await gateway.submit(site.submission(tokens=6, tenant="acme"))
    await gateway.follow(MODEL, admission.jobs[0], CallbackSink(lambda _: None), tenant="acme")
    assert 'answer_seconds_count{model="simulated",tier="default"} 1.0' in metrics.text().decode()


async def test_what_waits_and_what_happened_to_workers_is_told(site: Site) -> None:
    first = await site.beat("w1", slots="1", job_seconds="4")
    await site.put("a", tenant="acme")
    [held] = await site.claim(first)
    await site.put("b", tenant="acme")
    await site.put("c", tenant="zeta", tier="batch")
    await asyncio.sleep(0.02)
    await evict_now(site.broker, MODEL, first, max_attempts=3)
    await site.finish(first, held)  # too late
    [figures] = await backlogs(site.broker)
    assert figures.tiers == {"priority": 0, "default": 1, "flex": 0, "batch": 1, "resumed": 1}
    assert figures.tenants == {"acme": 2, "zeta": 1}
    assert figures.oldest >= 0.02
    assert (figures.evicted, figures.fenced) == ({"died": 1}, 1)


async def test_a_slow_model_has_more_seconds_of_work_waiting(site: Site) -> None:
    await site.beat("w1", slots="2", job_seconds="8")
    await site.put("a", "b")
    await site.put("c", "d", "e", "f")
    lines = backlog_text(await backlogs(site.broker), await census(site.broker)).decode().splitlines()
    assert 'millstream_model_backlog_seconds{model="simulated"} 16.0' in lines
    await evict_now(site.broker, MODEL, WorkerId("w1"), max_attempts=3)
    lines = backlog_text(await backlogs(site.broker), await census(site.broker)).decode().splitlines()
    assert 'millstream_model_backlog_seconds{model="simulated"} 60.0' in lines, "nobody is there: 10 s for each"


async def test_redis_tells_of_itself(site: Site) -> None:
    [server] = await server_figures(site.broker)
    assert server.name == "" and server.seconds > 0 and int(server.info["used_memory"]) > 0
