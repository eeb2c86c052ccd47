"""An upstream's death is a worker's death: the stream goes on as exactly as was stated, or ends with an error that says
so. Whatever else an upstream does wrong has an end too."""

import asyncio
from time import monotonic

import pytest

from millstream.common.chunk import Chunk
from millstream.common.errors import BadRequest, ContextLengthExceeded, EngineError, Interrupted, WorkerLost
from millstream.common.job import ChatPrompt, Guide, JobRequest, Sampling, TextPrompt
from tests.harness.scripted_upstream import Turn
from tests.harness.support import wait_until
from tests.worker.engines.openai.conftest import GREEDY, USER, UpstreamRig, said, words

CHAT = JobRequest(ChatPrompt(USER), Sampling(temperature=1.0, seed=5))


async def test_an_answer_goes_on_from_its_text_at_another_upstream(rig: UpstreamRig) -> None:
    """One worker in front of both."""
    first, second = await rig.upstream(Turn(die_after=3)), await rig.upstream()
    await rig.worker(first, second)
    chunks = await rig.read()
    assert words(chunks) == said(8)
    assert chunks[0].start is not None and chunks[0].start.exactness == "text"
    assert sum(chunk.start is not None for chunk in chunks) == 1
    [again] = second.asked
    assert again["messages"] == [*USER, {"role": "assistant", "content": "w0 w1 w2"}]
    assert again["continue_final_message"] is True and again["add_generation_prompt"] is False
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt, chunks[-1].usage.completion) == (10, 8), "as of an undisturbed answer"


async def test_it_goes_on_at_another_worker_whose_upstream_lives(rig: UpstreamRig) -> None:
    dying, living = await rig.upstream(Turn(gate_after=3)), await rig.upstream()
    await rig.worker(dying, name="w1")
    id = await rig.submit()
    await wait_until(lambda: dying.asked)
    await rig.worker(living, name="w2")
    heard: list[Chunk] = []
    async for chunk in rig.chunks(id):
        heard.append(chunk)
        if words(heard) == said(3):
            dying.kill()
            dying.models = []  # its process is gone: what answers there now is something else
    assert words(heard) == said(8)


async def test_a_completion_goes_on_from_its_text(rig: UpstreamRig) -> None:
    upstream = await rig.upstream(Turn(die_after=2))
    await rig.worker(upstream)
    request = JobRequest(TextPrompt("say: "), Sampling(max_tokens=8))
    assert words(await rig.read(request)) == said(8)
    assert [body["prompt"] for body in upstream.asked] == ["say: ", "say: w0 w1"]
    assert [body["max_tokens"] for body in upstream.asked] == [8, 6]


@pytest.mark.parametrize("turn", [Turn(die_after=0), Turn(end_after=0), Turn(status=503), Turn(status=502)])
async def test_before_its_first_token_any_answer_begins_anew(rig: UpstreamRig, turn: Turn) -> None:
    upstream = await rig.upstream(turn, can={"chat"})
    turn.headers = {"retry-after": "0"}
    await rig.worker(upstream)
    chunks = await rig.read(CHAT)
    assert words(chunks) == said(8)
    assert chunks[0].start is not None and chunks[0].start.exactness == "restart"


async def test_what_cannot_be_gone_on_with_ends_with_an_error_and_is_never_spliced(rig: UpstreamRig) -> None:
    upstream = await rig.upstream(Turn(die_after=3), can={"chat"})
    await rig.worker(upstream)
    heard: list[Chunk] = []
    with pytest.raises(Interrupted, match="died in the middle"):
        async for chunk in rig.chunks(await rig.submit(CHAT)):
            heard.append(chunk)
    assert words(heard) == said(3)
    assert len(upstream.asked) == 1


async def test_what_would_be_said_again_is_asked_again_and_compared(rig: UpstreamRig) -> None:
    """A grammar would begin anew in the middle, but greedily the whole answer comes again."""
    upstream = await rig.upstream(Turn(die_after=3), can={"chat", "goes_on"})
    await rig.worker(upstream)
    request = JobRequest(ChatPrompt(USER), GREEDY, guide=Guide("json_object"))
    assert words(await rig.read(request)) == said(8)
    assert [len(body["messages"]) for body in upstream.asked] == [1, 1]


async def test_another_answer_than_before_is_an_error(rig: UpstreamRig) -> None:
    other = Turn(deltas=[{"content": "w0 "}, {"content": "w1 "}, {"content": "something else"}])
    upstream = await rig.upstream(Turn(die_after=3), other, can={"chat"})
    await rig.worker(upstream)
    heard: list[Chunk] = []
    with pytest.raises(Interrupted, match="something else"):
        async for chunk in rig.chunks(await rig.submit()):
            heard.append(chunk)
    assert words(heard) == said(3)


async def test_a_request_that_kills_every_upstream_ends(rig: UpstreamRig) -> None:
    upstream = await rig.upstream(usual=Turn(die_after=0))
    await rig.worker(upstream)
    with pytest.raises(WorkerLost):
        await rig.read()
    assert len(upstream.asked) == 3


async def test_a_busy_upstream_is_left_alone_as_long_as_it_asks_and_the_job_waits(rig: UpstreamRig) -> None:
    busy = Turn(status=429, headers={"retry-after": "1"})
    upstream = await rig.upstream(busy)
    await rig.worker(upstream)
    began = monotonic()
    assert words(await rig.read()) == said(8)
    assert monotonic() - began >= 1
    assert len(upstream.asked) == 2


async def test_a_busy_upstream_gets_no_more_at_once_than_it_took(rig: UpstreamRig) -> None:
    upstream = await rig.upstream(Turn(gate_after=0), Turn(status=429, headers={"retry-after": "0"}))
    service = await rig.worker(upstream, slots=4)
    first = asyncio.create_task(rig.read())
    await wait_until(lambda: len(upstream.asked) == 1)
    second = asyncio.create_task(rig.read())
    await wait_until(lambda: len(upstream.asked) >= 2)
    await wait_until(lambda: service._driver.slots == 2 or second.done())
    upstream.gate.set()
    assert words(await first) == words(await second) == said(8)
    await wait_until(lambda: service._driver.slots > 2, what="it is trusted with more again")


async def test_a_silent_upstream_counts_as_dead(rig: UpstreamRig) -> None:
    upstream = await rig.upstream(Turn(silent_after=3))
    await rig.worker(upstream, silence=0.3)
    assert words(await rig.read()) == said(8)


async def test_one_that_never_begins_counts_as_dead(rig: UpstreamRig) -> None:
    upstream = await rig.upstream(Turn(silent_after=0))
    await rig.worker(upstream, first=0.5)
    assert words(await rig.read()) == said(8)


@pytest.mark.parametrize(
    "garbage",
    [b"<html>", b"[1, 2]", b'{"hello": 1}', b'{"choices": "many"}', b"\xff"],
)
async def test_garbage_is_an_error_that_shows_it(rig: UpstreamRig, garbage: bytes) -> None:
    upstream = await rig.upstream(Turn(raw_after=(2, b"data: " + garbage + b"\n\n")))
    await rig.worker(upstream)
    with pytest.raises(EngineError, match="no completion"):
        await rig.read()
    assert words(await rig.read()) == said(8), "the next one is well"


async def test_a_page_in_place_of_an_answer_is_an_error(rig: UpstreamRig) -> None:
    upstream = await rig.upstream(Turn(page="<html>Welcome to nginx!</html>"))
    await rig.worker(upstream)
    with pytest.raises(EngineError, match="Welcome to nginx"):
        await rig.read()


async def test_an_error_in_mid_answer_is_a_death(rig: UpstreamRig) -> None:
    failed = b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\n'
    upstream = await rig.upstream(Turn(raw_after=(3, failed)))
    await rig.worker(upstream)
    assert words(await rig.read()) == said(8)


@pytest.mark.parametrize(
    ("status", "error", "kind", "message"),
    [
        (400, {"error": {"message": "top_k must be an integer", "param": "top_k"}}, BadRequest, "top_k must be"),
        (422, {"detail": "seed: not permitted"}, BadRequest, "not permitted"),
        (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, ContextLengthExceeded, "too long"),
        (400, {"object": "error", "message": "maximum context length is 9"}, ContextLengthExceeded, "is 9"),
        (500, {"error": "out of memory"}, EngineError, "answered 500: out of memory"),
        (429, {"error": {"message": "pay first", "code": "insufficient_quota"}}, EngineError, "budget is used up"),
        (403, "<h1>Forbidden</h1>", EngineError, "answered 403"),
    ],
)
async def test_refusals_are_told_as_they_are(
    rig: UpstreamRig, status: int, error: dict[str, object], kind: type[Exception], message: str
) -> None:
    await rig.worker(await rig.upstream(Turn(status=status, error=error)))
    with pytest.raises(kind, match=message) as refused:
        await rig.read()
    assert type(refused.value) is kind


async def test_an_upstream_that_goes_away_takes_no_jobs_until_it_is_back(rig: UpstreamRig) -> None:
    upstream = await rig.upstream()
    await rig.worker(upstream)
    upstream.key = "changed"
    reading = asyncio.create_task(rig.read())
    await wait_until(lambda: sick(rig), what="the worker says that it takes nothing")
    assert not reading.done()
    upstream.key = ""
    assert words(await reading) == said(8)
    await wait_until(lambda: well(rig))


async def sick(rig: UpstreamRig) -> bool:
    return await rig.state() == "sick"


async def well(rig: UpstreamRig) -> bool:
    return await rig.state() == "ready"


async def test_one_that_comes_back_with_another_model_is_not_used(rig: UpstreamRig) -> None:
    upstream = await rig.upstream(Turn(die_after=3))
    await rig.worker(upstream)
    upstream.models = [{"id": upstream.models[0]["id"], "root": "other-weights"}]
    reading = asyncio.create_task(rig.read())
    await wait_until(lambda: sick(rig))
    upstream.models = [{"id": upstream.models[0]["id"]}]
    assert words(await reading) == said(8)


async def test_a_client_that_leaves_ends_the_conversation(rig: UpstreamRig) -> None:
    upstream = await rig.upstream(Turn(gate_after=2))
    service = await rig.worker(upstream)
    id = await rig.submit()
    await wait_until(lambda: upstream.asked)
    await wait_until(lambda: service._driver.stats().running == 1)
    job = service._running_jobs.by_id(id)
    assert job is not None
    service.cancel(job)
    await wait_until(lambda: service._driver.stats().running == 0)
    await wait_until(lambda: not len(service._running_jobs))


async def test_an_answer_that_came_as_a_whole_is_carried_too(rig: UpstreamRig) -> None:
    await rig.worker(await rig.upstream(Turn(whole=True)))
    chunks = await rig.read()
    assert words(chunks) == said(8).strip()
    assert chunks[-1].finish == "stop"
