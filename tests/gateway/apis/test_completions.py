"""Completions as the official client sees them."""

from typing import Any

import httpx
import openai
import pytest
from openai.types import Completion

from millstream.common.chunk import Chunk, Start, TokenLogprob, TopLogprob
from millstream.common.job import JobRequest, TextPrompt, TokensPrompt
from tests.gateway.scripted import MODEL, USAGE, ScriptedCluster, said
from tests.gateway.strict import strictly

ASK: dict[str, Any] = {"model": MODEL, "prompt": "Once"}


def token(text: str, logprob: float | None) -> TokenLogprob:
    return TokenLogprob(text, logprob, 1, [TopLogprob(text, logprob or 0.0, 1), TopLogprob("?", -9.0, 2)])


def echoed(request: JobRequest) -> list[Chunk]:
    """A prompt of two tokens told first, then one token."""
    prompt = [token("On", None), token("ce", -1.0)]
    begin = Start(prompt_tokens=2, fingerprint="fp_test", echo="Once", prompt_logprobs=prompt)
    return [
        Chunk(start=begin),
        Chunk(ids=[3], text=" up", logprobs=[token(" up", -0.25)]),
        Chunk(ids=[4], text="on", logprobs=[token("on", -0.5)]),
        Chunk(finish="length", usage=USAGE),
    ]


async def test_whole_and_streamed(client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    body = strictly(Completion, (await http.post("/v1/completions", json=ASK)).json())
    assert (body.choices[0].text, body.choices[0].finish_reason, body.object) == (
        "Hello world",
        "stop",
        "text_completion",
    )
    stream = await client.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    events = [event async for event in stream]
    assert [event.choices[0].text for event in events[:-1]] == ["Hello", " wor", "ld", ""]
    assert events[-1].choices == [] and events[-1].usage == body.usage


async def test_prompts_of_every_kind(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    prompts: list[Any] = ["a", ["b", "c"], [1, 2], [[3], [4, 5]]]
    for prompt in prompts:
        await client.completions.create(model=MODEL, prompt=prompt)
    assert [request.input for request in cluster.queue.requests] == [
        TextPrompt("a"),
        TextPrompt("b"),
        TextPrompt("c"),
        TokensPrompt([1, 2]),
        TokensPrompt([3]),
        TokensPrompt([4, 5]),
    ]


async def test_prompts_times_choices(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda request: said(f"{request.input.text}{request.sampling.seed}")  # type: ignore[union-attr]
    answer = await client.completions.create(model=MODEL, prompt=["a", "b"], n=2, seed=1)
    texts = [choice.text for choice in answer.choices]
    assert texts[0] == "a1" and texts[2] == "b1" and texts[1][1:] == texts[3][1:]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (14, 16)  # each prompt once


async def test_default_length_is_openais(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    await client.completions.create(**ASK)
    await client.completions.create(**ASK, max_tokens=0)
    assert [request.sampling.max_tokens for request in cluster.queue.requests] == [16, 0]


async def test_echo_with_logprobs(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = echoed
    answer = (await http.post("/v1/completions", json=ASK | {"echo": True, "logprobs": 1})).json()
    [choice] = answer["choices"]
    assert choice["text"] == "Once upon"
    assert choice["logprobs"]["tokens"] == ["On", "ce", " up", "on"]
    assert choice["logprobs"]["token_logprobs"] == [None, -1.0, -0.25, -0.5]
    assert choice["logprobs"]["text_offset"] == [0, 2, 4, 7]
    assert choice["logprobs"]["top_logprobs"][0] is None
    assert choice["logprobs"]["top_logprobs"][2] == {" up": -0.25, "?": -9.0}
    assert cluster.queue.requests[0].echo and cluster.queue.requests[0].prompt_logprobs == 1


async def test_streamed_offsets_also_when_resumed(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = echoed
    asked = ASK | {"echo": True, "logprobs": 1, "stream": True}
    whole = (await http.post("/v1/completions", json=asked)).text
    events = whole.split("\n\n")
    assert '"text_offset":[7]' in events[2]
    place = events[1].split("\n")[0].removeprefix("id: ")
    rest = await http.post("/v1/completions", json=asked, headers={"Last-Event-ID": place})
    assert rest.text == "\n\n".join(events[2:])


async def test_best_of(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    likelihoods = iter([-3.0, -0.5, -2.0])

    def script(request: JobRequest) -> list[Chunk]:
        logprob = next(likelihoods)
        return [said()[0], Chunk(ids=[1], text=str(logprob), logprobs=[token("x", logprob)]), said()[1]]

    cluster.queue.script = script
    answer = await client.completions.create(**ASK, best_of=3, n=2)
    assert [choice.text for choice in answer.choices] == ["-0.5", "-2.0"]
    assert answer.choices[0].logprobs is None
    assert answer.usage is not None and answer.usage.completion_tokens == 12  # all that were made
    with pytest.raises(openai.BadRequestError, match="best_of"):
        await client.completions.create(**ASK, best_of=3, stream=True)
