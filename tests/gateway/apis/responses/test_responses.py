"""The Responses API as the official client sees it."""

import json
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from openai.types import responses as kinds

from millstream.common.chunk import Chunk, Failure, Start, TokenLogprob, ToolDelta, TopLogprob
from millstream.common.job import ChatPrompt, JobRequest
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, USAGE, ScriptedCluster, failed, said
from tests.gateway.strict import strictly

ASK: dict[str, Any] = {"model": MODEL, "input": "hi"}
URL = "/v1/responses"
TOOL = {"type": "function", "name": "f", "parameters": {}}
ALLOWED = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}
THINKING = [
    Chunk(start=Start(prompt_tokens=7)),
    Chunk(ids=[1], reasoning="let me"),
    Chunk(ids=[2], reasoning=" see"),
    Chunk(ids=[3], text="It is"),
    Chunk(ids=[4], text=" so."),
    Chunk(ids=[5], tools=[ToolDelta(0, "call_1", "weather")]),
    Chunk(ids=[6], tools=[ToolDelta(0, arguments='{"a":')]),
    Chunk(ids=[7], tools=[ToolDelta(0, arguments="1}")]),
    Chunk(finish="tool_calls", usage=USAGE),
]
EVENTS: dict[str, Any] = {
    "response.created": kinds.ResponseCreatedEvent,
    "response.in_progress": kinds.ResponseInProgressEvent,
    "response.completed": kinds.ResponseCompletedEvent,
    "response.incomplete": kinds.ResponseIncompleteEvent,
    "response.failed": kinds.ResponseFailedEvent,
    "response.output_item.added": kinds.ResponseOutputItemAddedEvent,
    "response.output_item.done": kinds.ResponseOutputItemDoneEvent,
    "response.content_part.added": kinds.ResponseContentPartAddedEvent,
    "response.content_part.done": kinds.ResponseContentPartDoneEvent,
    "response.output_text.delta": kinds.ResponseTextDeltaEvent,
    "response.output_text.done": kinds.ResponseTextDoneEvent,
    "response.reasoning_text.delta": kinds.ResponseReasoningTextDeltaEvent,
    "response.reasoning_text.done": kinds.ResponseReasoningTextDoneEvent,
    "response.function_call_arguments.delta": kinds.ResponseFunctionCallArgumentsDeltaEvent,
    "response.function_call_arguments.done": kinds.ResponseFunctionCallArgumentsDoneEvent,
    "response.custom_tool_call_input.delta": kinds.ResponseCustomToolCallInputDeltaEvent,
    "response.custom_tool_call_input.done": kinds.ResponseCustomToolCallInputDoneEvent,
}


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream, each checked against the client's type of its name."""
    found: list[dict[str, Any]] = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        event = json.loads(fields["data"])
        assert event["type"] == fields["event"]
        strictly(EVENTS[event["type"]], event)
        found.append(event)
    assert "[DONE]" not in text
    return found


async def test_whole(http: httpx.AsyncClient) -> None:
    response = strictly(kinds.Response, (await http.post(URL, json=ASK)).json())
    assert response.output_text == "Hello world" and response.status == "completed"
    assert response.usage is not None and response.usage.total_tokens == 11
    assert response.usage.input_tokens_details.cached_tokens == 2
    assert response.id.startswith("resp_")


async def test_the_full_sequence_of_events(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: THINKING
    tools = [{"type": "function", "name": "weather", "parameters": {"type": "object"}}]
    events = events_of((await http.post(URL, json=ASK | {"stream": True, "tools": tools})).text)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(22))
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
    assert output[2]["arguments"] == '{"a":1}' and output[1]["content"][0]["text"] == "It is so."
    whole = (await http.post(URL, json=ASK | {"tools": tools})).json()
    for one, other in zip(whole["output"], output, strict=True):
        assert one | {"id": ""} == other | {"id": ""}


async def test_logprobs(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    word = TokenLogprob("Hi", -0.5, 4, [TopLogprob("Hi", -0.5, 4), TopLogprob("Yo", -1.5, 9)], [72, 105])
    cluster.queue.script = lambda _: [said()[0], Chunk(ids=[4], text="Hi", logprobs=[word]), said()[-1]]
    ask = ASK | {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    events = events_of((await http.post(URL, json=ask | {"stream": True})).text)
    [delta] = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [top["token"] for top in delta["logprobs"][0]["top_logprobs"]] == ["Hi", "Yo"]
    whole = strictly(kinds.Response, (await http.post(URL, json=ask)).json())
    assert whole.output[0].content[0].logprobs[0].bytes == [72, 105]  # type: ignore[union-attr, index]


async def test_client_stream(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(**ASK) as stream:
        final = await stream.get_final_response()
    assert final.output_text == "Hello world"


async def test_cut_and_failed(client: openai.AsyncOpenAI, http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: said("so lo", finish="length")
    cut = await client.responses.create(**ASK, max_output_tokens=1)
    assert cut.status == "incomplete" and cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    cluster.queue.script = lambda _: [*said("so")[:-1], failed("worker_lost", "gone")]
    events = events_of((await http.post(URL, json=ASK | {"stream": True})).text)
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "gone"}
    assert (await client.responses.retrieve(events[-1]["response"]["id"])).status == "failed"


async def test_what_the_worker_gets(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    items: list[Any] = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
    ]
    schema = {"type": "object", "properties": {}}
    await client.responses.create(
        model=MODEL,
        input=items,
        instructions="Be brief.",
        tools=[{"type": "function", "name": "f", "parameters": schema, "strict": True}],
        tool_choice={"type": "function", "name": "f"},
        text={"format": {"type": "json_schema", "name": "x", "schema": schema}},
        max_output_tokens=9,
        temperature=0,
        reasoning={"effort": "low"},
    )
    [request] = cluster.queue.requests
    assert isinstance(request.input, ChatPrompt)
    assert [message["role"] for message in request.input.messages] == ["system", "user", "assistant", "tool", "tool"]
    assert request.input.messages[1]["content"] == "ab"
    assert request.input.messages[2]["reasoning_content"] == "hm"
    assert [call["id"] for call in request.input.messages[2]["tool_calls"]] == ["c1", "c2"]
    assert request.input.tools[0]["function"]["name"] == "f"
    assert request.tool_use is not None and (request.tool_use.choice, request.tool_use.name) == ("named", "f")
    assert request.guide is not None and request.guide.kind == "json_schema"
    assert (request.sampling.max_tokens, request.sampling.temperature) == (9, 0)
    assert request.input.template_kwargs["reasoning_effort"] == "low"


async def test_a_schema_that_cannot_be_compiled_is_named_in_its_own_terms(
    client: openai.AsyncOpenAI, cluster: ScriptedCluster
) -> None:
    def refusing(request: JobRequest) -> list[Chunk]:
        assert request.guide is not None
        return [Chunk(error=Failure("invalid_grammar", "too deep", request.guide.param))]

    cluster.queue.script = refusing
    with pytest.raises(openai.BadRequestError, match="too deep") as refused:
        text: Any = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}
        await client.responses.create(**ASK, text=text)
    assert refused.value.param == "text.format.schema"


async def test_reading_on_from_every_event_on_any_gateway(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: THINKING
    events = events_of((await http.post(URL, json=ASK | {"stream": True})).text)
    path = f"{URL}/{events[0]['response']['id']}"
    async with gateway(cluster) as other, httpx.AsyncClient(base_url=other) as elsewhere:
        for number in range(-1, len(events) - 1):
            rest = await elsewhere.get(path, params={"stream": "true", "starting_after": number})
            assert events_of(rest.text) == events[number + 1 :]
        last = await elsewhere.get(path, params={"stream": "true", "starting_after": len(events) - 1})
        assert last.text == ""


async def test_what_is_refused(client: openai.AsyncOpenAI) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"input": ""}, "input"),
        ({"input": [{"type": "message", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "a_call_of_tomorrow"}]}, "input[0].type"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"tools": [{"type": "functoin", "name": "f"}]}, "tools[0].type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name"),
        ({"tools": [TOOL], "tool_choice": ALLOWED}, "tool_choice.tools[0].name"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"background": True, "store": False}, "background"),
        ({"temperature": 3}, "temperature"),
    ]
    for change, param in wrong:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(**ASK, extra_body=change)
        assert caught.value.param == param, change


async def test_a_fault_the_worker_finds_is_named_as_this_api_names_it(
    client: openai.AsyncOpenAI, cluster: ScriptedCluster
) -> None:
    for code, param, own in (
        ("context_length_exceeded", "messages", "input"),
        ("invalid_grammar", "response_format", "text.format"),
    ):
        cluster.queue.script = lambda _, code=code, param=param: [failed(code, f"'{param}' is wrong", param)]
        with pytest.raises(openai.BadRequestError, match=f"'{own}' is wrong") as caught:
            await client.responses.create(**ASK)
        assert (caught.value.param, caught.value.code) == (own, code)


async def test_truncation(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    def script(request: JobRequest) -> list[Chunk]:
        assert isinstance(request.input, ChatPrompt)
        long = len(request.input.messages) > 2
        return [failed("context_length_exceeded", "too long", "messages")] if long else said("fits")

    cluster.queue.script = script
    items: list[Any] = [{"role": "user", "content": str(index)} for index in range(7)]
    items[5] = {"type": "function_call_output", "call_id": "c", "output": "an answer without its call"}
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model=MODEL, input=items)
    assert caught.value.code == "context_length_exceeded"
    for stream in (False, True):
        answer = await client.responses.create(model=MODEL, input=items, truncation="auto", stream=stream)
        if not isinstance(answer, kinds.Response):
            answer = [event async for event in answer][-1].response  # type: ignore[union-attr]
        assert answer.output_text == "fits"
        assert (await client.responses.retrieve(answer.id)).output_text == "fits"
    assert cluster.store is not None
    assert all(b'"queued"' not in record.body for record in cluster.store.records["default", "response"].values())


async def test_the_models_own_sampling_is_told_where_a_request_is_silent(
    http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    [info] = cluster.directory.listed
    cluster.directory.listed = [replace(info, defaults={"temperature": 0.25})]
    for given, told in (({}, 0.25), ({"temperature": 0.5}, 0.5)):
        body = (await http.post("/v1/responses", json={"model": MODEL, "input": "hi", **given})).json()
        assert (body["temperature"], body["top_p"]) == (told, 1.0)
