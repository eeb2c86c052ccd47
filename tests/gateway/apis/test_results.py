"""Embeddings, rerank, score, tokenize, detokenize."""

from typing import Any

import httpx
import openai
import pytest
from openai.types import CreateEmbeddingResponse

from millstream.common.chunk import Chunk, Result, Start, Usage
from millstream.common.job import EmbedInput, JobRequest, RerankInput, TokenizeInput
from tests.gateway.scripted import MODEL, ScriptedCluster
from tests.gateway.strict import strictly


def computed(request: JobRequest) -> list[Chunk]:
    """Returns what a worker answers: the length of each text is its vector and its score."""
    match request.input:
        case EmbedInput(inputs):
            result = Result(vectors=[[float(len(entry)), 0.5] for entry in inputs])
        case RerankInput(_, documents):
            result = Result(scores=[len(document) / 10 for document in documents])
        case TokenizeInput(ids=list(ids)):
            result = Result(ids=ids, text="text")
        case _:
            result = Result(ids=[1, 2, 3], pieces=["a", "b", "c"])
    return [Chunk(start=Start(prompt_tokens=3)), Chunk(finish="stop", result=result, usage=Usage(prompt=3))]


@pytest.fixture(autouse=True)
def computing(cluster: ScriptedCluster) -> None:
    cluster.queue.script = computed


async def test_embeddings(client: openai.AsyncOpenAI, http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    raw = await http.post("/v1/embeddings", json={"model": MODEL, "input": ["a", "bcd"]})
    plain = strictly(CreateEmbeddingResponse, raw.json())
    assert [entry.embedding for entry in plain.data] == [[1.0, 0.5], [3.0, 0.5]]
    assert (plain.usage.prompt_tokens, plain.usage.total_tokens) == (3, 3)
    packed = await client.embeddings.create(model=MODEL, input=["a", "bcd"], dimensions=2)  # asks for base64
    assert [entry.embedding for entry in packed.data] == [[1.0, 0.5], [3.0, 0.5]]
    for given in ("a", [1, 2], [[1], [2, 3]]):
        await client.embeddings.create(model=MODEL, input=given)  # type: ignore[arg-type]
    assert [request.input for request in cluster.queue.requests] == [
        EmbedInput(["a", "bcd"]),
        EmbedInput(["a", "bcd"], 2),
        EmbedInput(["a"]),
        EmbedInput([[1, 2]]),
        EmbedInput([[1], [2, 3]]),
    ]


async def test_long_lists_are_several_jobs(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    texts = ["x" * (index % 7 + 1) for index in range(300)]
    answer = await client.embeddings.create(model=MODEL, input=texts)
    assert [entry.embedding[0] for entry in answer.data] == [len(text) for text in texts]
    assert [entry.index for entry in answer.data] == list(range(300))
    assert len(cluster.queue.requests) == 3


async def test_inputs_without_an_embedding(client: openai.AsyncOpenAI) -> None:
    wrong: list[Any] = ["", [], [[1], []], ["a", ""], ["a"] * 3000]
    for given in wrong:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.embeddings.create(model=MODEL, input=given)
        assert (caught.value.param or "").startswith("input")


async def test_rerank_and_score(http: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {"model": MODEL, "query": "q", "documents": ["a", {"text": "bbb"}, "cc"], "top_n": 2}
    answer = (await http.post("/v1/rerank", json=body | {"return_documents": True})).json()
    assert answer["results"] == [
        {"index": 1, "relevance_score": 0.3, "document": {"text": "bbb"}},
        {"index": 2, "relevance_score": 0.2, "document": {"text": "cc"}},
    ]
    one = (await http.post("/v1/score", json={"model": MODEL, "text_1": "q", "text_2": ["a", "bb"]})).json()
    pairs = (await http.post("/score", json={"model": MODEL, "text_1": ["q", "r"], "text_2": ["a", "bb"]})).json()
    assert [entry["score"] for entry in one["data"]] == [entry["score"] for entry in pairs["data"]] == [0.1, 0.2]
    uneven = await http.post("/score", json={"model": MODEL, "text_1": ["q"], "text_2": ["a", "bb"]})
    assert (uneven.status_code, uneven.json()["error"]["param"]) == (400, "text_2")


async def test_tokens(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    answer = await http.post("/tokenize", json={"model": MODEL, "prompt": "abc", "return_token_strs": True})
    assert answer.json() == {"count": 3, "max_model_len": 2048, "tokens": [1, 2, 3], "token_strs": ["a", "b", "c"]}
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    assert (await http.post("/tokenize", json=chat)).json()["token_strs"] is None
    assert (await http.post("/detokenize", json={"model": MODEL, "tokens": [5, 6]})).json() == {"prompt": "text"}
    assert (await http.post("/tokenize", json={"model": MODEL})).json()["error"]["param"] == "prompt"
    assert [request.input for request in cluster.queue.requests] == [
        TokenizeInput(text="abc"),
        TokenizeInput(messages=[{"role": "user", "content": "hi"}]),
        TokenizeInput(ids=[5, 6]),
    ]


async def test_counting_a_turns_input_tokens(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: [Chunk(finish="stop", result=Result(ids=[1, 2, 3]))]
    counted = await client.responses.input_tokens.count(model=MODEL, input="abc", instructions="s")
    assert (counted.input_tokens, counted.object) == (3, "response.input_tokens")
    [request] = cluster.queue.requests
    assert isinstance(request.input, TokenizeInput)
    assert [message["role"] for message in request.input.messages or []] == ["system", "user"]
