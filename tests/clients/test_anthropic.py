"""Anthropic's own Python client, as coding agents use it, against the whole cluster."""

from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.clients.conftest import ServedSite, script, scripts, user

WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def client(scripted: ServedSite) -> Any:
    with Anthropic(base_url=scripted.url, api_key="none", max_retries=0) as made:
        yield made


def test_a_message(client: Anthropic, scripted: ServedSite) -> None:
    answer = client.messages.create(
        model=scripted.model, max_tokens=100, system="Be short.", messages=user(script(text="Hello."))
    )
    assert (answer.content[0].type, answer.stop_reason) == ("text", "end_turn")
    assert answer.content[0].text == "Hello." and answer.usage.output_tokens > 0


def test_a_stop_sequence(client: Anthropic, scripted: ServedSite) -> None:
    answer = client.messages.create(
        model=scripted.model, max_tokens=100, stop_sequences=["END"], messages=user(script(text="before END after"))
    )
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "END")
    assert answer.content[0].type == "text" and answer.content[0].text == "before "


def test_a_loop_of_tools_streamed(client: Anthropic, scripted: ServedSite) -> None:
    call = {"text": "I look.", "tool_calls": [{"name": "weather", "arguments": {"city": "Graz"}}]}
    conversation = user(scripts(call, {"text": "It rains."}))
    options: dict[str, Any] = {"model": scripted.model, "max_tokens": 500, "tools": [WEATHER]}
    with client.messages.stream(messages=conversation, **options) as stream:
        first = stream.get_final_message()
    used = first.content[-1]
    assert first.stop_reason == "tool_use" and used.type == "tool_use"
    assert (used.name, used.input) == ("weather", {"city": "Graz"})
    conversation += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used.id, "content": "rain"}]},
    ]
    with client.messages.stream(messages=conversation, **options) as stream:
        assert "".join(stream.text_stream) == "It rains."


async def test_async_stream(scripted: ServedSite) -> None:
    said = user(script(reasoning="Hm.", text="Yes."))
    async with AsyncAnthropic(base_url=scripted.url, api_key="none", max_retries=0) as client:
        thinking: Any = {"type": "enabled", "budget_tokens": 1024}
        async with client.messages.stream(
            model=scripted.model, max_tokens=2000, messages=said, thinking=thinking
        ) as stream:
            final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]


def test_counting(client: Anthropic, scripted: ServedSite) -> None:
    few = client.messages.count_tokens(model=scripted.model, messages=user("hi"))
    many = client.messages.count_tokens(model=scripted.model, messages=user("hi" * 50), tools=[WEATHER])
    assert 0 < few.input_tokens < many.input_tokens


def test_errors_are_the_clients_own(client: Anthropic, scripted: ServedSite) -> None:
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        client.messages.create(model=scripted.model, max_tokens=5, messages=user("hi"), extra_body={"temperature": 9})
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="no such model", max_tokens=5, messages=user("hi"))
    with pytest.raises(anthropic.APIStatusError) as large:
        client.messages.create(model=scripted.model, max_tokens=5, messages=user("x" * 2**20))
    assert large.value.status_code == 413 and large.value.body["error"]["type"] == "request_too_large"  # type: ignore[index]


@pytest.mark.model
def test_the_real_model(real: ServedSite) -> None:
    with Anthropic(base_url=real.url, api_key="none", max_retries=0) as client:
        ask, greedy = user("What is the capital of France?"), {"temperature": 0}
        with client.messages.stream(model=real.model, max_tokens=20, messages=ask, extra_body=greedy) as stream:
            said = "".join(stream.text_stream)
        assert "Paris" in said
