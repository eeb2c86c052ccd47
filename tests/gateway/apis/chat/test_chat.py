"""Chat completions as the official client sees them."""

import asyncio
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from millstream.common.chunk import Chunk, Start, TokenLogprob, ToolDelta, TopLogprob, Usage
from tests.gateway.scripted import MODEL, USAGE, ScriptedCluster, said
from tests.gateway.strict import strictly

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
ALTERNATIVES = [TopLogprob("Hi", -0.5, 4), TopLogprob("\ufffd", -1.5, 9, [0xF0, 0x9F])]
LOGPROB = TokenLogprob("Hi", -0.5, 4, ALTERNATIVES, [72, 105])


async def test_whole_answer(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    response = await http.post("/v1/chat/completions", json=ASK)
    answer = strictly(ChatCompletion, response.json())
    assert answer.choices[0].message.content == "Hello world"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 4, 11)
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert answer.system_fingerprint == "fp_test"
    assert answer.id in cluster.queue.jobs
    assert response.headers["openai-model"] == MODEL
    assert response.headers["x-request-id"].startswith("req_")
    assert int(response.headers["openai-processing-ms"]) >= 0


async def test_streamed_answer(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    first, *middle, finish, usage = chunks
    assert first.choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in middle) == "Hello world"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, None, None, "stop"]
    assert finish.choices[0].delta.content is None
    assert usage.choices == [] and usage.usage is not None and usage.usage.total_tokens == 11
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1


async def test_stream_on_the_wire(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    response = await http.post("/v1/chat/completions", json=ASK | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    events = response.text.split("\n\n")
    assert events[-1] == "" and events[-2] == "data: [DONE]" and response.text.count("[DONE]") == 1
    [job] = cluster.queue.jobs
    assert [event.split("\n")[0] for event in events[:-2]] == [f"id: {job}:{seq}" for seq in range(1, 6)]
    for event in events[:-2]:
        chunk = strictly(ChatCompletionChunk, event.split("\n")[1].removeprefix("data: "))
        assert "usage" not in chunk.model_fields_set


def test_sync_client(sync_url: str) -> None:
    with openai.OpenAI(base_url=f"{sync_url}/v1", api_key="none", max_retries=0) as client:
        assert client.chat.completions.create(**ASK).choices[0].message.content == "Hello world"
        stream = client.chat.completions.create(**ASK, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello world"


async def test_text_is_encoded_exactly(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    texts = ['"quoted"', "line\nbreak\r\n", "100 %d %b", "Grüße 🌊", "\u2028\x00</script>", "id: x\n\ndata: y"]
    cluster.queue.script = lambda _: said(*texts)
    stream = await client.chat.completions.create(**ASK, stream=True)
    assert [chunk.choices[0].delta.content async for chunk in stream][1:-1] == texts


async def test_several_choices(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda request: said(f"{request.sampling.seed}")
    answer = await client.chat.completions.create(**ASK, n=3, seed=5)
    contents = [choice.message.content for choice in answer.choices]
    assert contents[0] == "5" and len(set(contents)) == 3
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 12)
    stream = await client.chat.completions.create(**ASK, n=3, seed=5, stream=True)
    found = {0: "", 1: "", 2: ""}
    async for chunk in stream:
        found[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert list(found.values()) == contents


async def test_logprobs(client: openai.AsyncOpenAI, cluster: ScriptedCluster, http: httpx.AsyncClient) -> None:
    cluster.queue.script = lambda _: [said()[0], Chunk(ids=[4], text="Hi", logprobs=[LOGPROB]), said()[1]]
    asked = ASK | {"logprobs": True, "top_logprobs": 2}
    body = strictly(ChatCompletion, (await http.post("/v1/chat/completions", json=asked)).json())
    [stream_token] = [
        chunk.choices[0].logprobs.content[0]
        async for chunk in await client.chat.completions.create(**asked, stream=True)
        if chunk.choices[0].logprobs and chunk.choices[0].logprobs.content
    ]
    assert body.choices[0].logprobs is not None
    assert body.choices[0].logprobs.content == [stream_token]
    assert (stream_token.token, stream_token.logprob, stream_token.bytes) == ("Hi", -0.5, [72, 105])
    alternatives = [(top.token, top.bytes) for top in stream_token.top_logprobs]
    assert alternatives == [("Hi", [72, 105]), ("\ufffd", [0xF0, 0x9F])]
    assert cluster.queue.requests[0].sampling.logprobs == 2


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
CALLS = [
    Chunk(start=Start(prompt_tokens=7)),
    Chunk(ids=[1], tools=[ToolDelta(0, "call_1", "weather", "")]),
    Chunk(ids=[2], tools=[ToolDelta(0, arguments='{"city":')]),
    Chunk(ids=[3], tools=[ToolDelta(0, arguments='"Rome"}')]),
    Chunk(ids=[4], tools=[ToolDelta(1, "call_2", "weather", "{}")]),
    Chunk(finish="tool_calls", usage=USAGE),
]


async def test_tool_calls(client: openai.AsyncOpenAI, cluster: ScriptedCluster, http: httpx.AsyncClient) -> None:
    cluster.queue.script = lambda _: CALLS
    body = strictly(ChatCompletion, (await http.post("/v1/chat/completions", json=ASK | {"tools": TOOLS})).json())
    message = body.choices[0].message
    assert message.content is None and body.choices[0].finish_reason == "tool_calls"
    assert [call.model_dump()["function"] for call in message.tool_calls or []] == [
        {"name": "weather", "arguments": '{"city":"Rome"}'},
        {"name": "weather", "arguments": "{}"},
    ]
    async with client.chat.completions.stream(**ASK, tools=TOOLS) as stream:  # type: ignore[arg-type]
        final = await stream.get_final_completion()
    assert [call.id for call in final.choices[0].message.tool_calls or []] == ["call_1", "call_2"]
    assert (final.choices[0].message.tool_calls or [])[0].function.arguments == '{"city":"Rome"}'


async def test_functions_in_the_older_form(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: [*CALLS[:4], CALLS[5]]
    functions: list[Any] = [{"name": "weather", "parameters": {"type": "object"}}]
    choice = (await client.chat.completions.create(**ASK, functions=functions)).choices[0]
    assert choice.finish_reason == "function_call" and choice.message.tool_calls is None
    assert choice.message.function_call is not None
    assert choice.message.function_call.arguments == '{"city":"Rome"}'
    name, arguments, finish = "", "", None
    async for chunk in await client.chat.completions.create(**ASK, functions=functions, stream=True):
        call = chunk.choices[0].delta.function_call
        name += (call.name or "") if call else ""
        arguments += (call.arguments or "") if call else ""
        finish = chunk.choices[0].finish_reason
    assert (name, arguments, finish) == ("weather", '{"city":"Rome"}', "function_call")


async def test_reasoning(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: [said()[0], Chunk(ids=[1], reasoning="hm"), *said("so")[1:]]
    message = (await client.chat.completions.create(**ASK)).choices[0].message
    assert (message.content, getattr(message, "reasoning_content", None)) == ("so", "hm")
    stream = await client.chat.completions.create(**ASK, stream=True)
    deltas = [chunk.choices[0].delta async for chunk in stream]
    assert [getattr(delta, "reasoning_content", None) for delta in deltas] == [None, "hm", None, None]


async def test_tokens_without_text_make_no_event(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: [said()[0], Chunk(ids=[1]), Chunk(ids=[2], text="ü"), *said()[1:]]
    stream = await client.chat.completions.create(**ASK, stream=True)
    assert [chunk.choices[0].delta.content async for chunk in stream] == ["", "ü", None]


async def test_waiting_streams_get_comments(cluster: ScriptedCluster, patient_url: str) -> None:
    cluster.queue.at_first = 0
    asked = ASK | {"stream": True}
    async with (
        httpx.AsyncClient(base_url=patient_url, timeout=20) as http,
        http.stream("POST", "/v1/chat/completions", json=asked) as response,
    ):
        assert response.status_code == 200
        lines = response.aiter_lines()
        assert (await anext(lines)).startswith(":")
        await cluster.queue.advance(9)
        rest = [line async for line in lines]
    assert "data: [DONE]" in rest


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_finish_reasons(client: openai.AsyncOpenAI, cluster: ScriptedCluster, reason: Any) -> None:
    cluster.queue.script = lambda _: said("x", finish=reason, usage=Usage(1, 1))
    assert (await client.chat.completions.create(**ASK)).choices[0].finish_reason == reason


async def test_requests_side_by_side(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda request: said(str(request.sampling.seed), "!")
    answers = await asyncio.gather(*(client.chat.completions.create(**ASK, seed=index) for index in range(20)))
    assert [answer.choices[0].message.content for answer in answers] == [f"{index}!" for index in range(20)]
