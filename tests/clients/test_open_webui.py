"""Open WebUI itself: it finds the models, chats through both APIs with tools of its own, names its chats, and notices
nothing of a worker that dies."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.agents import call
from tests.clients.conftest import ServedSite, script, scripts, user
from tests.clients.open_webui import OpenWebUI, events, last_message, open_webui

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWebUI]:
    with open_webui(tmp_path_factory.mktemp("open-webui")) as found:
        yield found


def test_its_own_api(page: OpenWebUI, scripted: ServedSite) -> None:
    """It passes on what the gateway answers, streamed and whole."""
    assert scripted.model in page.connect(scripted)
    asked: dict[str, Any] = {"model": scripted.model, "messages": user(script(text="Good morning."))}
    whole = page.http.post("/api/chat/completions", json=asked).json()
    assert whole["choices"][0]["message"]["content"] == "Good morning."
    streamed = page.http.post("/api/chat/completions", json=asked | {"stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    pieces = [event["choices"][0]["delta"].get("content", "") for event in events(streamed.text)]
    assert "".join(pieces) == "Good morning." and streamed.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("api", ["chat_completions", "responses"])
def test_a_chat_with_its_own_tools(page: OpenWebUI, scripted: ServedSite, api: str) -> None:
    page.connect(scripted, api_type=api)
    calls = [call("get_current_timestamp"), call("calculate_timestamp", days_ago=1)]
    first = page.chat(scripted.model, scripts({"text": "I look.", "tool_calls": calls}, {"text": "It is late."}))
    message = last_message(first)
    assert message["done"] and "error" not in message and message["content"] == "I look.\nIt is late."
    kinds = [item["type"] for item in message["output"]]
    assert kinds == ["message", *["function_call"] * 2, *["function_call_output"] * 2, "message"]
    results = [item["output"][0]["text"] for item in message["output"] if item["type"] == "function_call_output"]
    assert "current_timestamp" in results[0] and "calculated_timestamp" in results[1]
    second = page.chat(scripted.model, script(text="Again."), after=first)
    assert last_message(second)["content"] == "Again."


def test_a_title(page: OpenWebUI, scripted: ServedSite) -> None:
    """Titles are asked for without a stream, and its form has room for 1,000 tokens."""
    page.connect(scripted)
    asked = {"model": scripted.model, "messages": user(script(text='{"title": "Time"}'))}
    answer = page.http.post("/api/v1/tasks/title/completions", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"


def test_a_refusal_is_shown(page: OpenWebUI, scripted: ServedSite) -> None:
    page.connect(scripted)
    asked = {"model": scripted.model, "messages": user("hi"), "temperature": -1}
    refused = page.http.post("/api/chat/completions", json=asked)
    assert refused.status_code == 400 and "temperature" in refused.text


def test_it_notices_nothing_of_a_worker_that_dies(page: OpenWebUI, mortal: ServedSite) -> None:
    page.connect(mortal)
    chat = page.chat(mortal.model, script(text="It goes on to its end.", crash="once", after=9))
    assert last_message(chat)["content"] == "It goes on to its end."
