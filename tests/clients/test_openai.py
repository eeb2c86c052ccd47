"""OpenAI's own Python client against the whole cluster, blocking and async."""

import base64
import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from tests.clients.conftest import ServedSite, script, scripts, user
from tests.gateway.strict import strictly

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class City(BaseModel):
    """The class into which a structured answer is parsed."""

    name: str
    inhabitants: int


@pytest.fixture
def client(scripted: ServedSite) -> Any:
    with OpenAI(base_url=scripted.base_url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
async def async_client(scripted: ServedSite) -> Any:
    async with AsyncOpenAI(base_url=scripted.base_url, api_key="none", max_retries=0) as made:
        yield made


def test_chat(client: OpenAI, scripted: ServedSite) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=scripted.model, messages=user(script(text="Hello there."))
    )
    answer = strictly(ChatCompletion, raw.text)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello there.", "stop")
    assert raw.headers["x-request-id"] and raw.headers["openai-model"] == scripted.model
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def test_another_name_of_the_model(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o", messages=user(script(text="me")))
    assert answer.choices[0].message.content == "me"


async def test_async_chat_streamed(async_client: AsyncOpenAI, scripted: ServedSite) -> None:
    stream = await async_client.chat.completions.create(
        model=scripted.model,
        messages=user(script(text="one two three")),
        stream=True,
        stream_options={"include_usage": True},
        n=2,
    )
    chunks = [chunk async for chunk in stream]
    said = ["", ""]
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        said[choice.index] += choice.delta.content or ""
    assert said == ["one two three"] * 2
    usage = chunks[-1].usage
    assert usage is not None and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_completions(client: OpenAI, scripted: ServedSite) -> None:
    asked = [script(text="one"), script(text="two")]
    answer = client.completions.create(model=scripted.model, prompt=asked, echo=True)
    assert [choice.text for choice in answer.choices] == [asked[0] + "one", asked[1] + "two"]
    stream = client.completions.create(model=scripted.model, prompt=asked[0], stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "one"


def test_a_loop_of_tools(client: OpenAI, scripted: ServedSite) -> None:
    call = {"tool_calls": [{"name": "weather", "arguments": {"city": "Graz"}}]}
    conversation = user(scripts(call, {"text": "It rains in Graz."}))
    asked = client.chat.completions.create(model=scripted.model, messages=conversation, tools=[WEATHER])
    message = asked.choices[0].message
    assert asked.choices[0].finish_reason == "tool_calls" and message.tool_calls
    tool = message.tool_calls[0]
    assert tool.type == "function" and json.loads(tool.function.arguments) == {"city": "Graz"}
    conversation += [message, {"role": "tool", "tool_call_id": tool.id, "content": "rain"}]
    answer = client.chat.completions.create(model=scripted.model, messages=conversation, tools=[WEATHER])
    assert answer.choices[0].message.content == "It rains in Graz."


def test_structured_answers(client: OpenAI, scripted: ServedSite) -> None:
    said = script(text='{"name": "Graz", "inhabitants": 300000}')
    answer = client.chat.completions.parse(model=scripted.model, messages=user(said), response_format=City)
    assert answer.choices[0].message.parsed == City(name="Graz", inhabitants=300_000)
    turn = client.responses.parse(model=scripted.model, input=said, text_format=City)
    assert turn.output_parsed == City(name="Graz", inhabitants=300_000)


def test_a_refused_schema_is_the_clients_error(client: OpenAI, scripted: ServedSite) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        said = script(text='{"name": ', finish="length")
        client.chat.completions.parse(model=scripted.model, messages=user(said), response_format=City)


def test_the_chat_stream_helper(client: OpenAI, scripted: ServedSite) -> None:
    said = script(text="Look:", tool_calls=[{"name": "weather", "arguments": {"city": "Graz"}}])
    with client.chat.completions.stream(model=scripted.model, messages=user(said), tools=[WEATHER]) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "tool_calls.function.arguments.delta"} <= set(events)
    assert events.count("content.done") == events.count("tool_calls.function.arguments.done") == 1
    calls = final.choices[0].message.tool_calls
    assert calls and json.loads(calls[0].function.arguments) == {"city": "Graz"}


async def test_the_parsing_stream_helper(async_client: AsyncOpenAI, scripted: ServedSite) -> None:
    said = user(script(text='{"name": "Graz", "inhabitants": 3}'))
    async with async_client.chat.completions.stream(
        model=scripted.model, messages=said, response_format=City
    ) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == City(name="Graz", inhabitants=3)


def test_the_responses_stream_helper(client: OpenAI, scripted: ServedSite) -> None:
    said = script(reasoning="Hm.", text="Yes.")
    with client.responses.stream(model=scripted.model, input=said) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events if hasattr(event, "sequence_number")] == list(range(len(events)))
    assert final.output_text == "Yes." and [item.type for item in final.output] == ["reasoning", "message"]


def test_a_conversation_of_responses(client: OpenAI, scripted: ServedSite) -> None:
    call = {"tool_calls": [{"name": "weather", "arguments": {"city": "Graz"}}]}
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    said = scripts(call, {"text": "Rain."})
    first = client.responses.create(model=scripted.model, input=said, tools=[tool])
    asked = next(item for item in first.output if item.type == "function_call")
    second = client.responses.create(
        model=scripted.model,
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": asked.call_id, "output": "rain"}],
        tools=[tool],
    )
    assert second.output_text == "Rain."
    assert client.responses.retrieve(first.id).id == first.id
    assert [item.type for item in client.responses.input_items.list(first.id)] == ["message"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


async def test_a_response_in_the_background(async_client: AsyncOpenAI, scripted: ServedSite) -> None:
    said = script(text="slowly, slowly, slowly", rate=200)
    stream = await async_client.responses.create(model=scripted.model, input=said, background=True, stream=True)
    first = await anext(aiter(stream))
    await stream.close()
    assert first.type == "response.created"
    rest = await async_client.responses.retrieve(first.response.id, stream=True, starting_after=first.sequence_number)
    events = [event async for event in rest]
    assert events[0].sequence_number == 1 and events[-1].type == "response.completed"
    assert (await async_client.responses.retrieve(first.response.id)).output_text == "slowly, slowly, slowly"


def test_stored_completions(client: OpenAI, scripted: ServedSite) -> None:
    made = client.chat.completions.create(
        model=scripted.model, messages=user(script(text="kept")), store=True, metadata={"about": "clients"}
    )
    found = client.chat.completions.retrieve(made.id)
    assert found.choices[0].message.content == "kept"
    assert made.id in [each.id for each in client.chat.completions.list(metadata={"about": "clients"})]
    assert [message.role for message in client.chat.completions.messages.list(made.id)] == ["user"]
    assert client.chat.completions.delete(made.id).deleted


def test_models(client: OpenAI, scripted: ServedSite) -> None:
    (listed,) = client.models.list().data
    assert listed == client.models.retrieve(scripted.model)
    assert (listed.id, listed.object, listed.owned_by) == (scripted.model, "model", "millstream")


def test_files(client: OpenAI) -> None:
    file = client.files.create(file=("lines.jsonl", b'{"a": 1}\n'), purpose="batch")
    assert client.files.content(file.id).read() == b'{"a": 1}\n'
    assert file.id in [each.id for each in client.files.list()]
    assert client.files.delete(file.id).deleted


def test_errors_are_the_clients_own(client: OpenAI, scripted: ServedSite) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=scripted.model, messages=user("hi"), temperature=9)
    assert refused.value.param == "temperature" and refused.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no such model")
    failing = script(text="It breaks", error={"message": "out of memory"})
    with pytest.raises(openai.APIError, match="out of memory"):
        list(client.chat.completions.create(model=scripted.model, messages=user(failing), stream=True))
    with pytest.raises(openai.APIStatusError) as large:
        client.chat.completions.create(model=scripted.model, messages=user("x" * 2**20))
    assert large.value.status_code == 413


@pytest.mark.model
def test_the_real_model(real: ServedSite) -> None:
    with OpenAI(base_url=real.base_url, api_key="none", max_retries=0) as client:
        ask = user("What is the capital of France?")
        chosen: dict[str, Any] = {"model": real.model, "temperature": 0, "max_tokens": 20}
        whole = client.chat.completions.create(messages=ask, logprobs=True, top_logprobs=2, **chosen)
        stream = client.chat.completions.create(messages=ask, stream=True, **chosen)
        turn = client.responses.create(model=real.model, input=ask, temperature=0, max_output_tokens=20)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert whole.choices[0].message.content == streamed == turn.output_text
        assert "Paris" in streamed
        logprobs = whole.choices[0].logprobs
        assert logprobs is not None and logprobs.content is not None and len(logprobs.content[0].top_logprobs) == 2


@pytest.mark.model
def test_the_real_model_keeps_to_a_schema(real: ServedSite) -> None:
    class Answer(BaseModel):
        capital: str
        sure: bool

    with OpenAI(base_url=real.base_url, api_key="none", max_retries=0) as client:
        ask = user("What is the capital of France? Answer in JSON.")
        parsed = client.chat.completions.parse(
            model=real.model, messages=ask, response_format=Answer, temperature=0, max_tokens=60
        )
        assert isinstance(parsed.choices[0].message.parsed, Answer)


@pytest.mark.model
def test_embeddings(real: ServedSite) -> None:
    with OpenAI(base_url=real.base_url, api_key="none", max_retries=0) as client:
        floats = client.embeddings.create(model=real.embeddings, input=["a mill", "a stream"], encoding_format="float")
        default = client.embeddings.create(model=real.embeddings, input=["a mill", "a stream"])  # travels as base64
        assert len(floats.data) == 2 and floats.usage.total_tokens > 0
        assert default.data[1].embedding == pytest.approx(floats.data[1].embedding, abs=1e-6)
        packed: Any = client.embeddings.create(model=real.embeddings, input="a mill", encoding_format="base64")
        assert len(base64.b64decode(packed.data[0].embedding)) == 4 * len(floats.data[0].embedding)
