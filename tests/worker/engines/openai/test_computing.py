"""Vectors and scores of upstreams: found by the probe, asked through the queue, checked before anybody gets them."""

import asyncio
from time import monotonic

import pytest

from millstream.common.chunk import Result, Usage
from millstream.common.errors import BadRequest, ContextLengthExceeded, EngineError, MillstreamError, WorkerLost
from millstream.common.job import ClassifyInput, EmbedInput, JobInput, JobRequest, RerankInput
from millstream.worker.engines.base import ModelCard
from millstream.worker.engines.openai import pool
from millstream.worker.engines.openai.engine import OpenAIEngine
from millstream.worker.engines.openai.settings import UpstreamSettings
from tests.harness.computing_upstream import WIDTH, ComputingUpstream, Mishap
from tests.harness.scripted_upstream import MODEL, ScriptedUpstream, open_upstream
from tests.worker.engines.openai.conftest import UpstreamRig, words

TEXTS = EmbedInput(["abc", "a"])
VECTORS = [[3.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]


async def card(upstream: ScriptedUpstream, **settings: object) -> ModelCard:
    engine = OpenAIEngine(UpstreamSettings(urls=(upstream.url,), **settings))  # type: ignore[arg-type]
    return await asyncio.to_thread(engine.load)


async def computed(rig: UpstreamRig, work: JobInput) -> tuple[Result, Usage | None]:
    chunks = await rig.read(JobRequest(work))
    [result] = [chunk.result for chunk in chunks if chunk.result is not None]
    return result, chunks[-1].usage


async def in_front(rig: UpstreamRig, *mishaps: Mishap, **changes: object) -> ComputingUpstream:
    """A worker in front of an upstream of vectors with these mishaps."""
    upstream = ComputingUpstream(**changes)  # type: ignore[arg-type]
    await rig.serve_upstream(upstream)
    await rig.worker(upstream, served_name=MODEL)
    upstream.mishaps.extend(mishaps)
    return upstream


async def test_the_card_says_what_it_computes_and_how_wide() -> None:
    async with open_upstream(ComputingUpstream()) as upstream:
        found = await card(upstream)
    assert (found.capabilities, found.details["dimensions"]) == (("embeddings", "rerank"), str(WIDTH))
    assert found.details["upstream_can"] == "embeddings, rerank"
    assert (found.details["upstream_cannot"], found.exactness) == ("", {})
    async with open_upstream(ComputingUpstream(can={"chat", "embeddings"})) as upstream:
        assert (await card(upstream)).capabilities == ("chat", "embeddings")
    async with open_upstream(ComputingUpstream(can={"rerank"})) as upstream:
        found = await card(upstream)
    assert found.capabilities == ("rerank",)
    assert "dimensions" not in found.details


async def test_a_server_of_vectors_that_lists_no_models_tells_its_own() -> None:
    async with open_upstream(ComputingUpstream(tei=True, models=[])) as upstream:
        found = await card(upstream)
    assert (found.name, found.context_length) == ("BAAI/bge-small-en-v1.5", 512)
    assert found.details["upstream_server"] == "text-embeddings-inference"


async def test_vectors_come_in_the_order_of_the_inputs_with_the_upstreams_usage(rig: UpstreamRig) -> None:
    upstream = await in_front(rig)
    result, usage = await computed(rig, TEXTS)
    assert result.vectors == VECTORS
    assert usage is not None and usage.prompt == 6
    assert (await computed(rig, EmbedInput([[1, 2], [3]])))[0].vectors[0][0] == 2
    assert [body["input"] for body in upstream.computed] == [["abc", "a"], [[1, 2], [3]]]
    assert all("dimensions" not in body and "truncate" not in body for body in upstream.computed)


async def test_scores_belong_to_their_documents(rig: UpstreamRig) -> None:
    await in_front(rig)
    result, usage = await computed(rig, RerankInput("q", ["a", "ccc", "bb"]))
    assert result.scores == [0.1, 0.3, 0.2]
    assert usage is not None and usage.prompt == 5


async def test_a_server_that_takes_few_at_once_is_asked_in_parts(rig: UpstreamRig) -> None:
    upstream = await in_front(rig, tei=True, models=[])
    result, usage = await computed(rig, EmbedInput(["a", "bb", "ccc", "dddd", "eeeee"]))
    assert [vector[0] for vector in result.vectors] == [1, 2, 3, 4, 5]
    assert (await computed(rig, RerankInput("q", ["a", "ccc", "bb"])))[0].scores == [0.1, 0.3, 0.2]
    assert [len(body.get("input", body.get("texts", []))) for body in upstream.computed] == [2, 2, 1, 2, 1]
    assert usage is not None and usage.prompt == 15


async def test_tokens_are_counted_by_the_header_where_the_answer_tells_none(rig: UpstreamRig) -> None:
    await in_front(rig, tei=True, models=[])
    _, usage = await computed(rig, RerankInput("q", ["a", "b"]))
    assert usage is not None and usage.prompt == 7


async def test_dimensions_are_passed_on_and_refused_where_they_would_be_passed_over(rig: UpstreamRig) -> None:
    upstream = await in_front(rig, can={"embeddings", "shorten"})
    assert [len(each) for each in (await computed(rig, EmbedInput(["a"], 2)))[0].vectors] == [2]
    await computed(rig, EmbedInput(["a"], WIDTH))
    assert [body.get("dimensions") for body in upstream.computed] == [2, None]
    upstream.can = {"embeddings"}
    with pytest.raises(BadRequest, match="of 4 dimensions only") as refused:
        await computed(rig, EmbedInput(["a"], 2))
    assert refused.value.param == "dimensions"


@pytest.mark.parametrize(("owner", "field"), [("millstream", "truncate"), ("vllm", "truncate_prompt_tokens")])
async def test_truncate_is_said_in_the_servers_words(rig: UpstreamRig, owner: str, field: str) -> None:
    upstream = await in_front(rig, owner=owner)
    await computed(rig, EmbedInput(["abc"], truncate=True))
    assert field in upstream.computed[0]


BROKEN = [
    ({"data": [{"index": 0, "embedding": [1, 1, 1, 1]}]}, "1 vectors for 2 inputs"),
    ({"data": [{"index": 0, "embedding": [1, 1, 1, 1]}] * 2}, "counted them wrongly"),
    ({"data": [{"index": at, "embedding": [1, 1, 1]} for at in (0, 1)]}, "of 3 dimensions where 4"),
    ({"data": [{"index": at, "embedding": [1] * (3 + at)} for at in (0, 1)]}, "of 3, 4 dimensions where 4"),
    ({"data": [{"index": at, "embedding": [None] * 4} for at in (0, 1)]}, "no list of numbers"),
    ('{"data": [{"embedding": [NaN, 1, 1, 1]}, {"embedding": [1, 1, 1, 1]}]}', "no list of numbers"),
    ('{"data": [{"embedding": [1e999, 1, 1, 1]}, {"embedding": [1, 1, 1, 1]}]}', "no list of numbers|no numbers"),
    ({"data": [{"embedding": []}, {"embedding": []}]}, "of 0 dimensions where 4"),
    ("<html>", "no list of numbers"),
]


@pytest.mark.parametrize(("answer", "message"), BROKEN)
async def test_what_are_no_vectors_reaches_nobody(rig: UpstreamRig, answer: object, message: str) -> None:
    await in_front(rig, Mishap(body=answer))
    with pytest.raises(EngineError, match=message):
        await computed(rig, TEXTS)
    assert (await computed(rig, TEXTS))[0].vectors == VECTORS


@pytest.mark.parametrize(
    "results", [[], [{"index": 0, "score": 1}] * 2, [{"index": 0}, {"index": 1}], [{"index": at} for at in (0, 5)]]
)
async def test_what_are_no_scores_reaches_nobody(rig: UpstreamRig, results: object) -> None:
    await in_front(rig, Mishap(body={"results": results}))
    with pytest.raises(EngineError, match="scores"):
        await computed(rig, RerankInput("q", ["a", "b"]))


@pytest.mark.parametrize(
    ("mishap", "kind", "message"),
    [
        (Mishap(400, {"error": {"message": "no tokens", "param": "input"}}), BadRequest, "no tokens"),
        (
            Mishap(500, {"error": {"message": "input (701 tokens) is too large to process."}}),
            ContextLengthExceeded,
            "701 tokens",
        ),
        (Mishap(413, {"error": "batch too large", "error_type": "Validation"}), BadRequest, "batch too large"),
        (Mishap(500, {"error": "out of memory"}), EngineError, "out of memory"),
    ],
)
async def test_a_refusal_comes_in_the_upstreams_words(
    rig: UpstreamRig, mishap: Mishap, kind: type[MillstreamError], message: str
) -> None:
    upstream = await in_front(rig, mishap)
    with pytest.raises(kind, match=message):
        await computed(rig, TEXTS)
    assert len(upstream.computed) == 1


async def test_inputs_that_are_too_long_do_not_take_the_worker_out(rig: UpstreamRig) -> None:
    """One tenant's long texts cost it alone, whatever status the server gives them."""
    long = Mishap(500, {"error": {"message": "input (701 tokens) is too large to process."}})
    await in_front(rig, *[long] * 12)
    for _ in range(12):
        with pytest.raises(ContextLengthExceeded):
            await computed(rig, TEXTS)
    assert await rig.state() == "ready"
    assert (await computed(rig, TEXTS))[0].vectors == VECTORS


async def test_after_an_upstreams_death_it_is_computed_again_elsewhere(rig: UpstreamRig) -> None:
    first, second = ComputingUpstream(), ComputingUpstream()
    for upstream in (first, second):
        await rig.serve_upstream(upstream)
    await rig.worker(first, second)
    first.mishaps.append(Mishap(dies=True))
    second.mishaps.append(Mishap(dies=True))
    assert (await computed(rig, TEXTS))[0].vectors == VECTORS


async def test_what_kills_every_upstream_ends(rig: UpstreamRig) -> None:
    upstream = await in_front(rig, *[Mishap(dies=True)] * 9)
    with pytest.raises(WorkerLost):
        await computed(rig, TEXTS)
    assert len(upstream.computed) == 3


async def test_a_busy_upstream_is_asked_again_when_it_said(rig: UpstreamRig) -> None:
    await in_front(rig, Mishap(429, {"error": "Model is overloaded"}, {"retry-after": "1"}))
    began = monotonic()
    assert (await computed(rig, TEXTS))[0].vectors == VECTORS
    assert monotonic() - began >= 1


async def test_what_it_does_not_compute_is_refused_by_name(rig: UpstreamRig) -> None:
    await in_front(rig, can={"embeddings"})
    for work, route in ((RerankInput("q", ["a"]), "/v1/rerank"), (ClassifyInput(["a"]), "/v1/classify")):
        with pytest.raises(BadRequest, match=f"does not serve {route}, but /v1/embeddings"):
            await computed(rig, work)
    with pytest.raises(BadRequest, match="does not serve /v1/chat/completions, but /v1/embeddings"):
        words(await rig.read())


@pytest.mark.parametrize("status", [200, 500])
async def test_an_answer_without_end_is_not_read_to_its_end(
    rig: UpstreamRig, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(pool, "LONGEST_ANSWER", 10_000)
    await in_front(rig, Mishap(status, ["x" * 5000] * 2000))
    with pytest.raises(EngineError, match="an answer too long"):
        await computed(rig, TEXTS)
