"""Fields of other servers of open weights: each is honoured, or refused by name; none is dropped in silence."""

import json
from typing import Any

import httpx
import pytest

from millstream.common.chunk import Chunk, Start, TokenLogprob, TopLogprob
from millstream.common.job import Guide
from millstream.gateway.apis.anthropic.shape import MessageRequest
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.completions.shape import CompletionRequest
from millstream.gateway.apis.responses.shape import ResponseRequest
from millstream.gateway.apis.shared.shapes.foreign import HONOURED, REFUSED, WITHOUT_EFFECT
from millstream.gateway.errors.table import FieldError
from tests.gateway.scripted import MODEL, USAGE, ScriptedCluster

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": MODEL, "prompt": "hi"}
BODIES: list[tuple[Any, dict[str, Any]]] = [
    (ChatRequest, CHAT),
    (CompletionRequest, TEXT),
    (ResponseRequest, {"model": MODEL, "input": "hi"}),
    (MessageRequest, CHAT | {"max_tokens": 5}),
]
PROMPT = [TokenLogprob("h", None, 1), TokenLogprob("i", -0.5, 2, [TopLogprob("o", -0.1, 3), TopLogprob("i", -0.5, 2)])]


def test_the_tables_speak_of_each_field_once() -> None:
    assert not (REFUSED.keys() & HONOURED.keys() or REFUSED.keys() & WITHOUT_EFFECT.keys())
    assert not HONOURED.keys() & WITHOUT_EFFECT.keys()
    fields = {*ChatRequest.model_fields, *CompletionRequest.model_fields}
    assert HONOURED.keys() <= fields and not WITHOUT_EFFECT.keys() & fields


@pytest.mark.parametrize(("shape", "body"), BODIES, ids=lambda each: getattr(each, "__name__", ""))
def test_a_refused_field_is_named_on_every_api(shape: Any, body: dict[str, Any]) -> None:
    for name, field in {**REFUSED, **dict.fromkeys(HONOURED)}.items():
        if name in shape.model_fields:
            continue
        with pytest.raises(FieldError) as caught:
            shape.model_validate(body | {name: "something"})
        assert (caught.value.param, caught.value.wire_code) == (name, "unsupported_parameter")
        assert f"'{name}'" in caught.value.message
        for nothing in field.neutral if field else (None, False):
            shape.model_validate(body | {name: nothing})
    for name in WITHOUT_EFFECT:
        shape.model_validate(body | {name: "something"})


async def test_a_refusal_over_http(http: httpx.AsyncClient) -> None:
    for path, body in (("chat/completions", CHAT), ("completions", TEXT)):
        answer = await http.post(f"/v1/{path}", json=body | {"use_beam_search": True})
        error = answer.json()["error"]
        assert answer.status_code == 400 and error["param"] == "use_beam_search" and "vLLM" in error["message"]
        assert (await http.post(f"/v1/{path}", json=body | {"typical_p": 1.0})).status_code == 200
        assert (await http.post(f"/v1/{path}", json=body | {"typical_p": True})).status_code == 400


STRUCTURED: list[tuple[dict[str, Any], Guide]] = [
    ({"json": {"type": "object"}}, Guide("json_schema", '{"type":"object"}', "structured_outputs.json")),
    ({"json": '{"type":"object"}'}, Guide("json_schema", '{"type":"object"}', "structured_outputs.json")),
    ({"regex": "a+"}, Guide("regex", "a+", "structured_outputs.regex")),
    ({"choice": ["a", "b"]}, Guide("choice", '["a","b"]', "structured_outputs.choice")),
    ({"grammar": 'start: "a"'}, Guide("grammar", 'start: "a"', "structured_outputs.grammar")),
    ({"json_object": True, "regex": None}, Guide("json_object", "", "structured_outputs.json_object")),
]


@pytest.mark.parametrize(("asked", "guide"), STRUCTURED, ids=lambda each: str(each)[:20])
async def test_structured_outputs(
    http: httpx.AsyncClient, cluster: ScriptedCluster, asked: dict[str, Any], guide: Guide
) -> None:
    for path, body in (("chat/completions", CHAT), ("completions", TEXT), ("responses", BODIES[2][1])):
        answer = await http.post(f"/v1/{path}", json=body | {"structured_outputs": asked})
        assert answer.status_code == 200, answer.text
        assert cluster.queue.requests[-1].guide == guide


async def test_structured_outputs_that_ask_for_something_else(http: httpx.AsyncClient) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "structured_outputs.json"),
        ({"structural_tag": "{}"}, "structured_outputs.structural_tag"),
        ({"regex": "a", "whitespace_pattern": " "}, "structured_outputs.whitespace_pattern"),
        ({"regex": "a", "choice": ["a"]}, "structured_outputs.regex"),
        ({"json": "no json"}, "structured_outputs.json"),
        ({"choice": []}, "structured_outputs.choice"),
    ]
    for asked, param in wrong:
        answer = await http.post("/v1/chat/completions", json=CHAT | {"structured_outputs": asked})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


async def test_words_and_tokens_that_may_not_be_said(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    asked = {"bad_words": ["mill", " stream"], "allowed_token_ids": [5, 7]}
    for path, body in (("chat/completions", CHAT), ("completions", TEXT), ("responses", BODIES[2][1])):
        assert (await http.post(f"/v1/{path}", json=body | asked)).status_code == 200
        chosen = cluster.queue.requests[-1].sampling
        assert (chosen.bad_words, chosen.allowed_token_ids) == (["mill", " stream"], [5, 7])
    for wrong in ({"bad_words": [""]}, {"allowed_token_ids": []}, {"allowed_token_ids": [-1]}):
        assert (await http.post("/v1/chat/completions", json=CHAT | wrong)).status_code == 400


def told(_: object) -> list[Chunk]:
    """An answer of three tokens, of which the second makes nothing readable."""
    start = Start(2, "fp", prompt_logprobs=PROMPT, prompt_ids=[1, 2])
    texts = [Chunk(ids=[7], text="a"), Chunk(ids=[8]), Chunk(ids=[9], text="b")]
    return [Chunk(start=start), *texts, Chunk(finish="stop", usage=USAGE)]


def events_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


async def test_token_ids(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = told
    asked = {"return_token_ids": True}
    chat = (await http.post("/v1/chat/completions", json=CHAT | asked)).json()
    assert cluster.queue.requests[-1].prompt_ids
    assert (chat["prompt_token_ids"], chat["choices"][0]["token_ids"]) == ([1, 2], [7, 8, 9])
    text = (await http.post("/v1/completions", json=TEXT | asked)).json()["choices"][0]
    assert (text["prompt_token_ids"], text["token_ids"]) == ([1, 2], [7, 8, 9])
    stream = events_of((await http.post("/v1/chat/completions", json=CHAT | asked | {"stream": True})).text)
    assert stream[0]["prompt_token_ids"] == [1, 2]
    assert [token for event in stream for token in event["choices"][0]["token_ids"]] == [7, 8, 9]
    stream = events_of((await http.post("/v1/completions", json=TEXT | asked | {"stream": True})).text)
    assert [token for event in stream for token in event["choices"][0]["token_ids"]] == [7, 8, 9]
    plain = (await http.post("/v1/chat/completions", json=CHAT)).json()
    assert "prompt_token_ids" not in plain and "token_ids" not in plain["choices"][0]


async def test_the_prompts_log_probabilities(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = told
    expected = [
        None,
        {
            "3": {"logprob": -0.1, "rank": 1, "decoded_token": "o"},
            "2": {"logprob": -0.5, "rank": 2, "decoded_token": "i"},
        },
    ]
    chat = (await http.post("/v1/chat/completions", json=CHAT | {"prompt_logprobs": 2})).json()
    assert chat["prompt_logprobs"] == expected and cluster.queue.requests[-1].prompt_logprobs == 2
    choice = (await http.post("/v1/completions", json=TEXT | {"prompt_logprobs": 2})).json()["choices"][0]
    assert choice["prompt_logprobs"] == expected and choice["logprobs"] is None
    both = TEXT | {"prompt_logprobs": 2, "logprobs": 1, "echo": True}
    choice = (await http.post("/v1/completions", json=both)).json()["choices"][0]
    assert choice["prompt_logprobs"] == expected and choice["logprobs"]["tokens"] == ["h", "i"]
    assert list(choice["logprobs"]["top_logprobs"][1]) == ["o", "i"], "one alternative, and the token itself"
    for wrong in ({"prompt_logprobs": -5}, {"prompt_logprobs": 1, "stream": True}):
        assert (await http.post("/v1/chat/completions", json=CHAT | wrong)).status_code == 400


async def test_the_usage_so_far(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = told
    options = {"stream": True, "stream_options": {"continuous_usage_stats": True, "include_usage": True}}
    for path, body in (("chat/completions", CHAT), ("completions", TEXT)):
        answer = (await http.post(f"/v1/{path}", json=body | options)).text
        counted = [event["usage"]["completion_tokens"] for event in events_of(answer)]
        assert counted == ([0] if path == "chat/completions" else []) + [1, 3, 3, 4]
        places = [line[4:] for line in answer.splitlines() if line.startswith("id: ")]
        rest = await http.post(f"/v1/{path}", json=body | options, headers={"Last-Event-ID": places[1]})
        assert answer.endswith(rest.text) and len(events_of(rest.text)) == len(counted) - 2
