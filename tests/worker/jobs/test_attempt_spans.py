"""A worker's spans: written when Redis has taken the end of an attempt, and only by whoever ended it."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from millstream.common.broker import jobs, workers
from millstream.common.chunk import NOTHING_YET, Chunk
from millstream.common.job import (
    ChatPrompt,
    GatewayId,
    JobId,
    JobRequest,
    Lease,
    TextPrompt,
    Tier,
    TokensPrompt,
    WorkerId,
)
from millstream.common.tracing.span import SpanRecord
from millstream.worker.jobs.attempt_spans import MOST_CONTENT, AttemptSpans, content_of
from millstream.worker.jobs.running_jobs import RunningJob
from tests.harness.collected_spans import CollectedSpans
from tests.harness.queue_site import MODEL, Site, request
from tests.harness.support import wait_until

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def traced(tokens: int, traceparent: str = PARENT, **changes: Any) -> JobRequest:
    return msgspec.structs.replace(request(tokens), traceparent=traceparent, **changes)


async def put(site: Site, id: str, asked: JobRequest, tier: Tier = "default") -> None:
    envelope = jobs.Envelope(GatewayId("g"), "acme", tier, timeout_ms=60_000, retention_ms=60_000)
    await jobs.submit(site.broker, MODEL, envelope, [jobs.NewJob(JobId(id), asked)])


async def holds(site: Site, id: str, worker: str, least: int = 3) -> None:
    """Waits until a worker runs a job and has made some of its answer."""

    async def running() -> bool:
        job = await site.job(id)
        logged = await site.broker.redis.xlen(f"ms:{{{MODEL}}}:chunks:{id}")
        return job.get("worker") == worker and logged >= least

    await wait_until(running, what=f"{worker} runs {id}")


def spans(collected: CollectedSpans, count: int) -> Callable[[], list[SpanRecord] | None]:
    return lambda: collected.spans if len(collected.spans) >= count else None


async def test_a_finished_answer(site: Site) -> None:
    collected = CollectedSpans()
    await site.worker("w", spans=collected)
    await put(site, "j", traced(5))
    wait, attempt = await wait_until(spans(collected, 2))
    assert (wait.name, attempt.name, attempt.kind) == ("queue wait", "attempt 1", "consumer")
    assert wait.end == attempt.start <= attempt.end
    told = attempt.attributes
    assert (told["gen_ai.usage.output_tokens"], told["gen_ai.response.finish_reasons"]) == (5, ["length"])
    assert (told["millstream.worker.id"], told["millstream.outcome"]) == ("w", "finished")
    assert 0 < float(str(told["millstream.first_token_after"])) < 60
    assert "gen_ai.output.messages" not in told


@pytest.mark.parametrize("traceparent", ["", PARENT[:-1] + "0"])
async def test_what_is_not_recorded_is_not_told(site: Site, traceparent: str) -> None:
    collected = CollectedSpans()
    await site.worker("w", spans=collected)
    await put(site, "quiet", traced(5, traceparent))
    await put(site, "told", traced(5))
    await wait_until(spans(collected, 2))
    assert {span.attributes["millstream.job.id"] for span in collected.spans} == {"told"}


async def test_prompt_and_answer_are_told_when_a_setting_asks_for_them(site: Site) -> None:
    collected = CollectedSpans()
    await site.worker("w", spans=collected, trace_content=True)
    await put(site, "j", traced(3))
    _, attempt = await wait_until(spans(collected, 2))
    asked = json.loads(str(attempt.attributes["gen_ai.input.messages"]))
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    (said,) = json.loads(str(attempt.attributes["gen_ai.output.messages"]))
    assert (said["finish_reason"], len(said["parts"][0]["content"].split())) == ("length", 3)


async def test_a_cancelled_job_and_one_that_gave_way(site: Site) -> None:
    collected = CollectedSpans()
    await site.worker("w", slots=2, rate=100, spans=collected)
    await put(site, "unwanted", traced(100_000))
    await put(site, "flexible", traced(100_000), tier="flex")
    await holds(site, "unwanted", "w")
    await holds(site, "flexible", "w")
    await jobs.cancel(site.broker, MODEL, "", [JobId("unwanted")])
    await wait_until(spans(collected, 2))
    await jobs.recall(site.broker, MODEL, "", JobId("flexible"))
    await wait_until(spans(collected, 4))
    told = [
        (span.attributes["millstream.job.id"], span.attributes["millstream.outcome"]) for span in collected.spans[1::2]
    ]
    assert told == [("unwanted", "cancelled"), ("flexible", "preempted")]
    assert not any(span.error for span in collected.spans)


async def test_who_lost_a_job_tells_nothing_and_who_has_it_next_tells_both(site: Site) -> None:
    of_the_first, of_the_second = CollectedSpans(), CollectedSpans()
    first = await site.worker("first", rate=200, spans=of_the_first)
    await put(site, "j", traced(300))
    await holds(site, "j", "first")
    await site.worker("second", spans=of_the_second)
    await workers.evict_now(site.broker, MODEL, WorkerId("first"), max_attempts=3)  # it lives, and learns of it late
    await wait_until(spans(of_the_second, 4))
    assert of_the_second.told() == [
        ("queue wait", None),
        ("attempt 1", "lost"),
        ("queue wait", None),
        ("attempt 2", "finished"),
    ]
    await wait_until(lambda: first.idle)
    assert of_the_first.spans == []


def test_what_cannot_be_told_ends_nothing() -> None:
    collected = CollectedSpans()
    odd = workers.Claimed(JobId("j"), MODEL, Lease("1:w"), NOTHING_YET, 0, 0, traced(5), 1, "no leases at all")
    AttemptSpans(collected).tell(RunningJob(odd), "ended")
    assert collected.spans == []


def test_content_has_a_bound_and_keeps_the_newest() -> None:
    messages = [{"role": "user", "content": "a" * MOST_CONTENT}, {"role": "user", "content": "the last"}]
    shown = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:secret"}}]}
    told = content_of(JobRequest(ChatPrompt([*messages, shown])), [Chunk(text="yes"), Chunk(text=" no")], "stop")
    asked = json.loads(str(told["gen_ai.input.messages"]))
    assert [len(each["parts"][0]["content"]) for each in asked] == [MOST_CONTENT - 8, 8]
    assert "secret" not in str(told) and '"yes no"' in str(told["gen_ai.output.messages"])
    assert "once" in str(content_of(JobRequest(TextPrompt("once")), [], "stop"))
    assert content_of(JobRequest(TokensPrompt([1])), [], "stop") == {}
