"""The words a user sees: the curl line, the banner, progress, and what a conversation is made of."""

import io
import json
import shlex

import httpx
import pytest

from millstream.cli.chat import AnswerStats, ChatError, answer_to, first_model, request_body, texts
from millstream.cli.settings import ChatSettings
from millstream.cli.up.banner import banner, curl_line, example_model
from millstream.cli.up.log_view import LogView
from millstream.cli.up.screen import Listener, Screen
from millstream.common.broker.models.directory import ModelInfo
from millstream.common.job import ModelName


@pytest.mark.parametrize("model", ["smollm2", 'org/it\'s "quoted" $HOME `x`', "größe"])
def test_the_curl_line_survives_a_shell(model: str) -> None:
    words = shlex.split(curl_line("http://127.0.0.1:8000", model))
    assert words[:3] == ["curl", "-sSN", "http://127.0.0.1:8000/v1/chat/completions"]
    body = json.loads(words[words.index("-d") + 1])
    assert body["model"] == model
    assert body["stream"] is True


def event(text: str) -> str:
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}}]})


def test_the_curl_line_names_the_key_only_where_one_is_needed() -> None:
    assert "$MILLSTREAM_API_KEY" in curl_line("https://h:1", "m", needs_key=True, insecure=True)
    assert "Authorization" not in curl_line("http://h:1", "m")


def test_the_line_is_for_a_model_that_chats() -> None:
    vectors = ModelInfo(name=ModelName("all-minilm"), workers=[], waiting=0, capabilities=("embeddings", "rerank"))
    words = ModelInfo(name=ModelName("smollm2"), workers=[], waiting=0, capabilities=("chat", "completions"))
    assert example_model([vectors, words]) == "smollm2"
    assert example_model([vectors]) == "MODEL"


def test_the_banner_hides_passwords() -> None:
    info = ModelInfo(name=ModelName("m"), workers=[], waiting=0, engine="simulated", context_length=2048)
    text = banner("http://127.0.0.1:8000", "redis://me:secret@host:6379/0", [info], "curl ...")
    assert "secret" not in text
    assert "redis://me:***@host:6379/0" in text
    assert "http://127.0.0.1:8000/v1" in text and "page     http://127.0.0.1:8000/\n" in text


def test_plain_progress_is_a_line_for_each_stage_not_for_each_percent(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(LogView(io.StringIO(), as_json=True))
    listener = Listener("worker-1", screen)
    listener.line(json.dumps({"event": "loading", "stage": "loading the tokenizer", "fraction": None}))
    for percent in range(101):
        listener.line(json.dumps({"event": "loading", "stage": "loading the weights", "fraction": percent / 100}))
    screen.ready("worker-1")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "worker-1: loading the tokenizer"
    assert lines[1:-1] == [f"worker-1: loading the weights {p}%" for p in (0, 25, 50, 75, 100)]
    assert lines[-1] == "worker-1: ready"


def test_a_childs_output_is_an_event_of_ours_or_text() -> None:
    target = io.StringIO()
    listener = Listener("gateway", Screen(LogView(target, as_json=True)))
    listener.line('{"event": "job_claimed", "job": "j1"}')
    listener.line("Segmentation fault")
    listener.line("{not json")
    first, second, third = (json.loads(line) for line in target.getvalue().splitlines())
    assert first == {"event": "job_claimed", "job": "j1", "child": "gateway"}
    assert (second["text"], third["text"]) == ("Segmentation fault", "{not json")


def test_text_of_a_stream_and_its_error() -> None:
    assert "".join(texts(["id: 1", event("Par"), "", event("is"), ": keep-alive", "data: [DONE]"])) == "Paris"
    news: list[str] = []
    waiting = [": queued 2, about 4 s", ": keep-alive", ": queued 2, about 4 s", ": queued 1", event("x")]
    assert list(texts(waiting, news.append)) == ["x"] and news == ["queued 2, about 4 s", "queued 1"]
    with pytest.raises(ChatError, match="worker died"):
        list(texts([event("x"), 'data: {"error": {"message": "worker died"}}']))


def test_an_answers_figures_are_told() -> None:
    times = iter([10.0, 10.5, 11.0, 12.5])
    stats = AnswerStats(lambda: next(times))
    usage = {"prompt_tokens": 30, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 16}}
    for text in texts(
        [event("Par"), event(""), event("is"), event("."), f'data: {{"usage": {json.dumps(usage)}}}'], count=stats.count
    ):
        stats.heard(text)
    told = "9 tokens after a prompt of 30, 16 of them cached; the first after 0.50 s, then 4.0 tokens/s"
    assert stats.line() == told
    assert AnswerStats().line() == "0 tokens after a prompt of 0"
    assert request_body(ChatSettings(stats=True), "m", [])["stream_options"] == {"include_usage": True}


def test_only_what_the_user_chose_is_sent() -> None:
    body = request_body(ChatSettings(temperature=0), "m", [{"role": "user", "content": "hi"}])
    assert body == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "temperature": 0}


def test_without_a_gateway_the_remedy_is_named() -> None:
    with httpx.Client(base_url="http://127.0.0.1:9") as http:
        with pytest.raises(ChatError, match="millstream up"):
            first_model(http)
        with pytest.raises(ChatError, match="broke"):
            list(answer_to(http, {}))
