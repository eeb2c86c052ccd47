"""Ollama's native API as its official client sees it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import ollama
import pytest
import pytest_asyncio

from millstream.common.chunk import Chunk, Result, Start, TokenLogprob, ToolDelta, TopLogprob
from millstream.common.job import ChatPrompt, EmbedInput, TextPrompt
from millstream.gateway.connection.sse import EventStream
from millstream.gateway.settings import GatewaySettings
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, USAGE, ScriptedCluster, failed, said
from tests.harness.serving import serving

HI: list[Any] = [{"role": "user", "content": "hi"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "now", "parameters": {"type": "object", "properties": {}}},
}


@asynccontextmanager
async def llama_at(url: str, **options: Any) -> AsyncIterator[ollama.AsyncClient]:
    made = ollama.AsyncClient(host=url, **options)
    yield made
    await made.close()


@pytest_asyncio.fixture
async def llama(url: str) -> AsyncIterator[ollama.AsyncClient]:
    async with llama_at(url) as made:
        yield made


def thinking_and_calling(_: object) -> list[Chunk]:
    return [
        Chunk(start=Start(prompt_tokens=7)),
        Chunk(ids=[1], reasoning="hm"),
        Chunk(ids=[2], text="So 100% \u2028\x85\u2029"),
        Chunk(ids=[3], text="be it."),
        Chunk(ids=[4], tools=[ToolDelta(0, "call_1", "weather")]),
        Chunk(ids=[5], tools=[ToolDelta(0, arguments='{"city": ')]),
        Chunk(ids=[6], tools=[ToolDelta(0, arguments='"Rome"}')]),
        Chunk(ids=[7], tools=[ToolDelta(1, "call_2", "weather", "{}")]),
        Chunk(finish="tool_calls", usage=USAGE),
    ]


async def test_a_streamed_chat_says_what_a_whole_one_does(llama: ollama.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = thinking_and_calling
    whole = await llama.chat(MODEL, HI, tools=[WEATHER], think=True)
    parts = [part async for part in await llama.chat(MODEL, HI, tools=[WEATHER], think=True, stream=True)]
    assert (
        "".join(part.message.content or "" for part in parts)
        == whole.message.content
        == "So 100% \u2028\x85\u2029be it."
    )
    assert "".join(part.message.thinking or "" for part in parts) == whole.message.thinking == "hm"
    calls = [call for part in parts for call in part.message.tool_calls or []]
    assert calls == whole.message.tool_calls
    assert [dict(call.function.arguments) for call in calls] == [{"city": "Rome"}, {}]
    assert [part.done for part in parts] == [*[False] * (len(parts) - 1), True]
    for end in (parts[-1], whole):
        assert (end.done_reason, end.prompt_eval_count, end.eval_count) == ("stop", USAGE.prompt, USAGE.completion)
        assert end.total_duration and end.eval_duration and end.created_at and end.created_at.endswith("Z")
    assert parts[-1].prompt_eval_duration


async def test_generate_streams_unless_told_otherwise(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: said("Hello", " wor", "ld", finish="length")
    asked = {"model": f"{MODEL}:latest", "prompt": "hi"}
    streamed = await http.post("/api/generate", json=asked)
    assert streamed.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in streamed.text.splitlines()]
    whole = (await http.post("/api/generate", json=asked | {"stream": False})).json()
    assert "".join(line["response"] for line in lines) == whole["response"] == "Hello world"
    assert {line["model"] for line in [*lines, whole]} == {f"{MODEL}:latest"}, "as it was asked for"
    assert lines[-1]["done_reason"] == whole["done_reason"] == "length"


async def test_what_the_worker_gets_of_a_chat(llama: ollama.AsyncClient, cluster: ScriptedCluster) -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Rom\u00e9"}}}
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        *HI,
        {"role": "assistant", "thinking": "hm", "tool_calls": [call, {"function": {"name": "time", "arguments": {}}}]},
        {"role": "tool", "content": "noon", "tool_name": "time"},
        {"role": "tool", "content": "sun"},
    ]
    options = {"temperature": 0, "top_k": 5, "top_p": 0.5, "min_p": 0.1, "seed": 3, "num_predict": 9, "stop": ["END"]}
    options |= {"repeat_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.25}
    options |= {"num_ctx": 4096, "num_gpu": 1, "num_thread": 8}
    await llama.chat(MODEL, messages, tools=[WEATHER], options=options, think="low", keep_alive="5m")
    [request] = cluster.queue.requests
    assert isinstance(request.input, ChatPrompt)
    written = request.input.messages
    first, second = written[2]["tool_calls"]
    assert (
        json.loads(first["function"]["arguments"]) == {"city": "Rom\u00e9"} and written[2]["reasoning_content"] == "hm"
    )
    assert [written[3]["tool_call_id"], written[4]["tool_call_id"]] == [second["id"], first["id"]]
    assert request.input.template_kwargs == {"reasoning_effort": "low", "enable_thinking": True}
    assert request.tool_use is not None and request.tool_use.choice == "auto"
    chosen = request.sampling
    assert (chosen.temperature, chosen.top_k, chosen.top_p, chosen.min_p, chosen.seed) == (0, 5, 0.5, 0.1, 3)
    assert (chosen.max_tokens, chosen.stop, chosen.repetition_penalty) == (9, ["END"], 1.2)
    assert (chosen.presence_penalty, chosen.frequency_penalty) == (0.5, 0.25)


async def test_without_options_ollamas_defaults_hold(llama: ollama.AsyncClient, cluster: ScriptedCluster) -> None:
    await llama.chat(MODEL, HI, options={"num_predict": -1, "seed": -1})
    [request] = cluster.queue.requests
    chosen = request.sampling
    assert (chosen.temperature, chosen.top_k, chosen.top_p, chosen.max_tokens) == (0.8, 40, 0.9, None)


async def test_what_the_worker_gets_of_a_prompt(llama: ollama.AsyncClient, cluster: ScriptedCluster) -> None:
    await llama.generate(MODEL, "hi", system="Be brief.")
    await llama.generate(MODEL, "<s>hi", raw=True, options={"num_predict": 5, "temperature": 0.5})
    told, raw = cluster.queue.requests
    assert isinstance(told.input, ChatPrompt) and told.guide is None
    assert [message["content"] for message in told.input.messages] == ["Be brief.", "hi"]
    assert raw.input == TextPrompt("<s>hi") and (raw.sampling.max_tokens, raw.sampling.temperature) == (5, 0.5)


async def test_a_format_is_a_guide(llama: ollama.AsyncClient, cluster: ScriptedCluster) -> None:
    schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}
    await llama.chat(MODEL, HI, format=schema)
    await llama.generate(MODEL, "hi", format="json", raw=True)
    await llama.chat(MODEL, HI, format="")
    first, second, third = cluster.queue.requests
    assert first.guide is not None and second.guide is not None and third.guide is None
    assert first.guide.kind == "json_schema" and list(json.loads(first.guide.value)["properties"]) == ["b", "a"]
    assert second.guide.kind == "json_object"


async def test_log_probabilities(llama: ollama.AsyncClient, cluster: ScriptedCluster) -> None:
    token = TokenLogprob("hi", -0.5, 7, [TopLogprob("hi", -0.5, 7), TopLogprob("ho", -1.5, 8)])
    cluster.queue.script = lambda _: [*said()[:1], Chunk(ids=[7], text="hi", logprobs=[token]), said()[-1]]
    parts = [part async for part in await llama.chat(MODEL, HI, stream=True, logprobs=True, top_logprobs=2)]
    whole = await llama.chat(MODEL, HI, logprobs=True, top_logprobs=2)
    assert cluster.queue.requests[0].sampling.logprobs == 2
    told = [logprob for part in parts for logprob in part.logprobs or []]
    assert told == whole.logprobs and told[0].logprob == -0.5 and len(told[0].top_logprobs or []) == 2


async def test_embeddings(llama: ollama.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda request: [
        *said()[:1],
        Chunk(result=Result(vectors=[[0.5, float(len(text))] for text in request.input.inputs])),  # type: ignore[union-attr]
        Chunk(finish="stop", usage=USAGE),
    ]
    several = await llama.embed(MODEL, ["a", "bcd"], dimensions=2)
    assert several.embeddings == [[0.5, 1.0], [0.5, 3.0]] and several.prompt_eval_count == USAGE.prompt
    assert (await llama.embeddings(MODEL, "ab")).embedding == [0.5, 2.0]
    first, second = (request.input for request in cluster.queue.requests)
    assert isinstance(first, EmbedInput) and (first.dimensions, first.truncate) == (2, True)
    assert isinstance(second, EmbedInput) and second.inputs == ["ab"]


async def test_models(llama: ollama.AsyncClient, http: httpx.AsyncClient) -> None:
    [listed] = (await llama.list()).models
    assert listed.model == MODEL and listed.digest and len(listed.digest) == 64
    shown = await llama.show(f"{MODEL}:latest")
    assert shown.capabilities == ["completion", "tools"]
    assert shown.modelinfo is not None and shown.modelinfo["transformers.context_length"] == 2048
    assert [running.context_length for running in (await llama.ps()).models] == [2048]
    assert (await http.post("/api/show", json={"name": MODEL})).status_code == 200
    assert "version" in (await http.get("/api/version")).json()
    with pytest.raises(ollama.ResponseError, match="does not exist"):
        await llama.show("nobody")


async def test_asking_for_nothing_only_tells_whether_the_model_is_there(
    llama: ollama.AsyncClient, cluster: ScriptedCluster
) -> None:
    assert (await llama.generate(MODEL)).done_reason == "load"
    assert (await llama.chat(MODEL, [], keep_alive=0)).done_reason == "unload"
    with pytest.raises(ollama.ResponseError, match="does not exist"):
        await llama.generate("nobody")
    assert not cluster.queue.jobs


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("chat", {"messages": [HI[0] | {"images": ["aGk="]}]}, "'messages[0].images'"),
    ("chat", {"messages": HI, "options": {"mirostat": 1}}, "'options.mirostat'"),
    ("chat", {"messages": HI, "options": {"typical_p": 0.5}}, "'options.typical_p'"),
    ("chat", {"messages": HI, "options": {"repeat_penalty": 1.1, "repeat_last_n": 64}}, "'options.repeat_last_n'"),
    ("chat", {"messages": HI, "options": {"num_predict": 0}}, "'options.num_predict'"),
    ("chat", {"messages": HI, "options": {"temperature": "hot"}}, "'options.temperature'"),
    ("chat", {"messages": HI, "format": "xml"}, "'xml'"),
    ("chat", {"messages": HI, "tools": [{"type": "function"}]}, "'tools[0].function'"),
    ("chat", {"messages": [{"role": "stranger", "content": "hi"}]}, "'stranger'"),
    ("generate", {"prompt": "hi", "suffix": "!"}, "'suffix'"),
    ("generate", {"prompt": "hi", "template": "{{ .Prompt }}"}, "'template'"),
    ("generate", {"prompt": "hi", "context": [1, 2]}, "'context'"),
    ("generate", {"prompt": "hi", "images": ["aGk="]}, "'images'"),
    ("generate", {"prompt": "hi", "raw": True, "system": "be"}, "'system'"),
    ("embed", {"input": ["a", ""]}, "'input[1]'"),
    ("embeddings", {"prompt": ""}, "'prompt'"),
]


@pytest.mark.parametrize(("path", "fields", "named"), REFUSED)
async def test_what_cannot_be_done_is_refused_by_name(
    http: httpx.AsyncClient, path: str, fields: dict[str, Any], named: str
) -> None:
    answer = await http.post(f"/api/{path}", json={"model": MODEL, **fields})
    assert answer.status_code == 400 and list(answer.json()) == ["error"]
    assert named in answer.json()["error"]


async def test_every_error_has_ollamas_shape(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    unknown = await http.post("/api/chat", json={"model": "nobody", "messages": HI})
    assert (unknown.status_code, list(unknown.json())) == (404, ["error"])
    for path in ("/api/pull", "/api/nothing"):
        assert list((await http.post(path, json={})).json()) == ["error"]
    assert (await http.post("/api/chat", content=b"{")).json()["error"].startswith("We could not parse")
    settings = GatewaySettings(port=0, api_keys=["tenant:sk-right"])
    async with serving(settings, cluster.connect) as url:
        async with llama_at(url) as nobody:
            with pytest.raises(ollama.ResponseError, match="API key") as caught:
                await nobody.list()
        assert caught.value.status_code == 401
        async with llama_at(url, headers={"Authorization": "Bearer sk-right"}) as tenant:
            assert (await tenant.list()).models


async def test_a_failure_in_mid_stream_is_the_last_line(llama: ollama.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: [*said("Hello")[:2], failed("engine_error", "it broke")]
    heard: list[str] = []
    with pytest.raises(ollama.ResponseError, match="it broke"):
        async for part in await llama.chat(MODEL, HI, stream=True):
            heard.append(part.message.content or "")
    assert heard == ["Hello"]


async def test_a_silent_stream_sends_nothing_that_is_no_answer(patient_url: str, cluster: ScriptedCluster) -> None:
    """Ollama's client reads every line as an answer."""
    cluster.queue.at_first = 0
    asking = {"model": MODEL, "messages": HI}
    async with httpx.AsyncClient(base_url=patient_url) as http, http.stream("POST", "/api/chat", json=asking) as stream:
        await asyncio.sleep(4 * cluster.queue.keep_alive)
        await cluster.queue.advance(2)
        await asyncio.sleep(4 * cluster.queue.keep_alive)
        await cluster.queue.advance(9)
        lines = [json.loads(line) async for line in stream.aiter_lines()]
    assert "".join(line["message"]["content"] for line in lines) == "Hello world" and lines[-1]["done"]


async def test_an_idempotency_key_finds_the_same_answer(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    asked, key = {"model": MODEL, "messages": HI}, {"idempotency-key": "once"}
    first = await http.post("/api/chat", json=asked, headers=key)
    place = {"last-event-id": f"{first.headers['x-millstream-request']}:2"}
    again = await http.post("/api/chat", json=asked, headers=key | place)
    assert len(cluster.queue.jobs) == 1
    texts = [[json.loads(line)["message"] for line in answer.text.splitlines()] for answer in (first, again)]
    assert texts[0] == texts[1], "lines have no ids: the answer begins at its beginning"


async def test_a_stopping_gateway_says_so_in_a_line(cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.queue.at_first = 2
    stopping = asyncio.Event()
    monkeypatch.setattr(EventStream, "stop_signal", stopping.wait)
    asked = {"model": MODEL, "messages": HI}
    lines: list[str] = []
    async with gateway(cluster, drain=0.1) as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
        with pytest.raises(httpx.RemoteProtocolError):  # its body has no end
            async with http.stream("POST", "/api/chat", json=asked) as stream:
                async for each in stream.aiter_lines():
                    lines.append(each)
                    stopping.set()
    assert list(json.loads(lines[-1])) == ["error"] and "stopping" in lines[-1]
