"""Anthropic's Messages API as the official client sees it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pytest
import pytest_asyncio
from anthropic import types as kinds

from millstream.common.chunk import Chunk, Result, Start, ToolDelta
from millstream.common.job import ChatPrompt, TokenizeInput
from tests.gateway.scripted import MODEL, USAGE, ScriptedCluster, failed, said
from tests.gateway.strict import strictly

ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
EVENTS: dict[str, Any] = {
    "message_start": kinds.RawMessageStartEvent,
    "message_delta": kinds.RawMessageDeltaEvent,
    "message_stop": kinds.RawMessageStopEvent,
    "content_block_start": kinds.RawContentBlockStartEvent,
    "content_block_delta": kinds.RawContentBlockDeltaEvent,
    "content_block_stop": kinds.RawContentBlockStopEvent,
}
TOOLS: list[Any] = [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}]


@pytest_asyncio.fixture
async def claude(url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as made:
        yield made


def thinking_and_calling(_: object) -> list[Chunk]:
    return [
        Chunk(start=Start(prompt_tokens=7)),
        Chunk(ids=[1], reasoning="hm"),
        Chunk(ids=[2], text="So"),
        Chunk(ids=[3], text=" be it."),
        Chunk(ids=[4], tools=[ToolDelta(0, "toolu_1", "weather")]),
        Chunk(ids=[5], tools=[ToolDelta(0, arguments='{"city": ')]),
        Chunk(ids=[6], tools=[ToolDelta(0, arguments='"Rome"}')]),
        Chunk(finish="tool_calls", usage=USAGE),
    ]


async def test_whole(http: httpx.AsyncClient) -> None:
    body = (await http.post("/v1/messages", json=ASK)).json()
    message = strictly(kinds.Message, body)
    assert body["content"] == [{"type": "text", "text": "Hello world"}]  # without `citations`: some refuse a null there
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (5, 2, 4)


async def test_streamed_is_the_same(
    claude: anthropic.AsyncAnthropic, http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    cluster.queue.script = thinking_and_calling
    whole = await claude.messages.create(**ASK, tools=TOOLS)
    async with claude.messages.stream(**ASK, tools=TOOLS) as stream:
        final = await stream.get_final_message()
    assert [block.model_dump() for block in final.content] == [block.model_dump() for block in whole.content]
    assert final.stop_reason == whole.stop_reason == "tool_use"
    assert final.content[0].type == "thinking" and final.content[0].signature, "clients drop thoughts without one"
    assert final.content[2].input == {"city": "Rome"}  # type: ignore[union-attr]
    assert whole._request_id is not None
    assert final.usage.output_tokens == whole.usage.output_tokens
    raw = (await http.post("/v1/messages", json=ASK | {"tools": TOOLS, "stream": True})).text
    kinds_seen: list[str] = []
    for block in raw.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        strictly(EVENTS[fields["event"]], fields["data"])
        kinds_seen.append(fields["event"].removeprefix("content_block_"))
    blocks = ["start", "delta", "delta", "stop"] * 3
    assert kinds_seen == ["message_start", *blocks, "message_delta", "message_stop"]


async def test_what_the_worker_gets(claude: anthropic.AsyncAnthropic, cluster: ScriptedCluster) -> None:
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sun"}]},
                {"type": "text", "text": "well?"},
            ],
        },
        {"role": "assistant", "content": "It is"},
    ]
    await claude.messages.create(
        model=MODEL,
        max_tokens=9,
        messages=messages,
        system=[{"type": "text", "text": "Be brief."}],
        tools=TOOLS,
        tool_choice={"type": "any"},
        stop_sequences=["END"],
        extra_body={"top_k": 4},
        metadata={"user_id": "u"},
    )
    [request] = cluster.queue.requests
    assert isinstance(request.input, ChatPrompt)
    written = request.input.messages
    assert [message["role"] for message in written] == ["system", "user", "assistant", "tool", "user", "assistant"]
    assert [message["content"] for message in written] == ["Be brief.", "ab", "I look.", "sun", "well?", "It is"]
    assert json.loads(written[2]["tool_calls"][0]["function"]["arguments"]) == {"x": 1}
    assert written[2]["reasoning_content"] == "hm" and request.input.continue_final_message
    assert request.tool_use is not None and request.tool_use.choice == "required"
    assert (request.sampling.stop, request.sampling.max_tokens, request.sampling.top_k) == (["END"], 9, 4)


async def test_stop_reasons(claude: anthropic.AsyncAnthropic, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: said("x", finish="length")
    assert (await claude.messages.create(**ASK)).stop_reason == "max_tokens"
    cluster.queue.script = lambda _: [*said("x")[:-1], Chunk(finish="stop", stopped_by="END", usage=USAGE)]
    stopped = await claude.messages.create(**ASK)
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "END")


async def test_count_tokens(claude: anthropic.AsyncAnthropic, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: [Chunk(finish="stop", result=Result(ids=[1, 2, 3]))]
    counted = await claude.messages.count_tokens(model=MODEL, messages=ASK["messages"], system="s", tools=TOOLS)
    assert counted.input_tokens == 3
    [request] = cluster.queue.requests
    assert isinstance(request.input, TokenizeInput) and len(request.input.tools) == 1


async def test_errors(claude: anthropic.AsyncAnthropic, http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.create(**ASK | {"model": "unknown"})
    wrong = await http.post("/v1/messages", json={"model": MODEL, "messages": ASK["messages"]})
    assert wrong.status_code == 400
    assert wrong.json()["error"] == {
        "type": "invalid_request_error",
        "message": "Missing required parameter: 'max_tokens'.",
    }
    cluster.queue.script = lambda _: [*said("x")[:-1], failed("worker_lost", "gone")]
    with pytest.raises(anthropic.APIStatusError, match="gone"):
        async with claude.messages.stream(**ASK) as stream:
            await stream.get_final_message()


async def test_reading_on(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = thinking_and_calling
    asked = ASK | {"stream": True}
    events = (await http.post("/v1/messages", json=asked)).text.split("\n\n")
    marked = [index for index, event in enumerate(events) if event.startswith("id: ")]
    for index in marked:
        place = events[index].split("\n")[0].removeprefix("id: ")
        rest = await http.post("/v1/messages", json=asked, headers={"Last-Event-ID": place})
        assert rest.text == "\n\n".join(events[index + 1 :])
