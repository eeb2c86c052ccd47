"""A model refuses what the kind of its engine cannot do; no engine pretends to be another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from millstream.common.broker.models.directory import model_info
from millstream.common.chunk import Chunk, Start
from millstream.common.errors import Interrupted
from millstream.common.job import ChatPrompt, EmbedInput, JobId, JobInput, JobRequest, RerankInput, WorkerId
from millstream.gateway.queue.client import Submission
from millstream.gateway.queue.sink import CallbackSink
from millstream.worker.engines.base import LoadProgress, ModelCard, silent
from millstream.worker.engines.simulated.tokenizer import SimulatedTokenizer
from millstream.worker.jobs.drivers.driver import check_same_model
from millstream.worker.service.service import ModelService
from millstream.worker.settings import WorkerSettings
from tests.harness.queue_site import MODEL, Site
from tests.harness.support import wait_until

USER = [{"role": "user", "content": "hi"}]


class Lengths:
    """A computing engine whose vectors are the lengths of the inputs."""

    kind: Literal["vectors"] = "vectors"
    slots = 4
    tokenizer = SimulatedTokenizer()

    def load(self, progress: LoadProgress = silent) -> ModelCard:
        return ModelCard(MODEL, "lengths", 256, capabilities=("embeddings", "rerank"))

    def embed(
        self, inputs: list[list[int]], *, dimensions: int | None = None, truncate: bool = False
    ) -> list[list[float]]:
        return [[float(len(ids))] for ids in inputs]

    def score(self, query: str, documents: list[str]) -> list[float]:
        return [float(len(text)) for text in documents]

    def close(self) -> None: ...


@asynccontextmanager
async def computing(site: Site) -> AsyncIterator[None]:
    """A worker of vectors, in service."""
    engine = Lengths()
    settings = WorkerSettings(redis_url=site.broker.url, drain=0, lease=1)
    service, stop = ModelService(site.broker, WorkerId("v"), engine, engine.load(), settings), asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    await wait_until(lambda: _live(site))
    try:
        yield
    finally:
        stop.set()
        await task


async def _live(site: Site) -> int:
    return (await model_info(site.broker, MODEL)).live


async def ask(site: Site, input: JobInput) -> list[Chunk]:
    client = await site.gateway()
    await client.submit(Submission(MODEL, [(JobId("asked"), JobRequest(input))]))
    heard: list[Chunk] = []
    await client.follow(MODEL, JobId("asked"), CallbackSink(heard.append), tenant="default")
    return heard


async def test_a_model_of_vectors_computes(site: Site) -> None:
    async with computing(site):
        chunks = await ask(site, EmbedInput(["abc", "a"]))
        assert [chunk.result.vectors for chunk in chunks if chunk.result] == [[[3.0], [1.0]]]
        assert chunks[0].start is not None and chunks[0].start.prompt_tokens == 4


async def test_a_model_of_vectors_says_that_it_does_not_chat(site: Site) -> None:
    async with computing(site):
        [refused] = await ask(site, ChatPrompt(USER))
    assert refused.error is not None and refused.error.param == "model"
    assert "/v1/embeddings" in refused.error.message


@pytest.mark.parametrize("work", [EmbedInput(["abc"]), RerankInput("a", ["b"])])
async def test_a_model_of_tokens_says_that_it_makes_no_vectors(site: Site, work: JobInput) -> None:
    await site.worker("t")
    [refused] = await ask(site, work)
    assert refused.error is not None and (refused.error.code, refused.error.param) == ("invalid_request", "model")


def test_an_answer_is_gone_on_with_only_by_the_model_that_began_it() -> None:
    card = ModelCard(MODEL, "transformers", 256, "fp_here")
    begun = [Chunk(start=Start(3, "fp_there")), Chunk(text="Hi")]
    with pytest.raises(Interrupted, match=r"fp_there.*fp_here"):
        check_same_model(begun, card)
    check_same_model(begun[:1], card)  # nothing was delivered yet
    check_same_model([Chunk(start=Start(3, "fp_here")), *begun[1:]], card)
