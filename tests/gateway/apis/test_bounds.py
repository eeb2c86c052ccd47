"""Every list in a body has a bound, which is counted before anything is made of the body, and told by the error."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from millstream.common.errors import BadRequest
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.completions.shape import CompletionRequest
from millstream.gateway.apis.shared.read.body import MOST_ENTRIES, MOST_FIELDS, MOST_OBJECTS, extent, parsed
from millstream.gateway.http.json_dispatch import json_routes
from millstream.gateway.http.routes import ROUTERS
from millstream.gateway.requests.prepared import MOST_COPIED
from tests.gateway.scripted import MODEL

SHAPES = {path: route.shape for path, route in json_routes(ROUTERS).items()}
HI = [{"role": "user", "content": "hi"}]


def unbounded(schema: Any, path: str) -> Iterator[str]:
    """Lists, and objects whose names the client chooses and whose values we read, without a bound."""
    if isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from unbounded(inner, f"{path}/{index}")
    elif isinstance(schema, dict):
        if schema.get("type") == "array" and "maxItems" not in schema:
            yield path
        if isinstance(schema.get("additionalProperties"), dict) and "maxProperties" not in schema:
            yield path
        for name, inner in schema.items():
            if name not in ("examples", "default"):
                yield from unbounded(inner, f"{path}/{name}")


@pytest.mark.parametrize("path", SHAPES)
def test_every_list_of_a_body_is_bounded(path: str) -> None:
    shape = SHAPES[path]
    assert shape is not None and not [*unbounded(shape.model_json_schema(), "")]


async def test_the_error_names_the_limit(http: httpx.AsyncClient) -> None:
    for path, field, value, most in (
        ("/v1/chat/completions", "messages", HI * 16385, 16384),
        ("/v1/chat/completions", "guided_choice", ["x"] * 4097, 4096),
        ("/v1/completions", "prompt", ["x"] * 4097, 4096),
        ("/v1/embeddings", "input", ["x"] * 2049, 2048),
        ("/v1/responses", "input", HI * 16385, 16384),
    ):
        error = (await http.post(path, json={"model": MODEL, "messages": HI, field: value})).json()["error"]
        assert error["param"] == field and f"at most {most} entries, but got {most + 1}" in error["message"], error
        assert error["code"] == "array_above_max_length"


async def test_a_wrong_entry_far_down_a_list_is_named(http: httpx.AsyncClient) -> None:
    for prompt, param in (
        ([1] * 5000 + ["x"], "prompt[5000]"),
        (["x"] * 90 + [1], "prompt[90]"),
        ([[1], [1, "x"]], "prompt[1][1]"),
    ):
        error = (await http.post("/v1/completions", json={"model": MODEL, "prompt": prompt})).json()["error"]
        assert error["param"] == param, error


def test_of_many_wrong_entries_the_first_is_told_and_no_other() -> None:
    for shape, body in (
        (CompletionRequest, {"model": "m", "prompt": [{}] * 4000}),
        (CompletionRequest, {"model": "m", "prompt": [None] * 300_000}),
        (ChatRequest, {"model": "m", "messages": [{"role": "user", "content": [0] * 16384}]}),
        (ChatRequest, {"model": "m", "messages": HI, "metadata": {str(index): 0 for index in range(100_000)}}),
    ):
        with pytest.raises(ValidationError) as caught:
            shape.model_validate(body)
        assert caught.value.error_count() <= 8


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (f"{MOST_ENTRIES} entries", b'{"a":[' + b"0," * MOST_ENTRIES + b"0]}"),
        (f"{MOST_ENTRIES} entries", b'{"a":[' + b'"",' * MOST_ENTRIES + b'""]}'),
        (f"{MOST_ENTRIES} entries", b"[" + b"[]," * MOST_ENTRIES + b"[]]"),
        (f"{MOST_FIELDS} fields", b'{"a":0' + b',"a":0' * MOST_FIELDS + b"}"),
        (f"{MOST_OBJECTS} objects", b"[" + b"{}," * MOST_OBJECTS + b"{}]"),
    ],
)
def test_a_body_of_too_many_things_is_refused_unparsed(words: str, body: bytes) -> None:
    with pytest.raises(BadRequest, match=words):
        parsed(body)


def test_what_stands_in_strings_is_not_counted() -> None:
    text = '{,[:}"\\' * (MOST_ENTRIES // 2)
    assert parsed(json.dumps({"text": text, "more": [text, "\\"]}).encode()) == {"text": text, "more": [text, "\\"]}


def test_as_many_as_are_allowed_are_read() -> None:
    for body in (b'{"a":[' + b"0," * (MOST_ENTRIES - 3) + b"0]}", b"[" + b"{}," * (MOST_OBJECTS - 1) + b"{}]"):
        assert not extent(body).exceeds and parsed(body)


async def test_many_choices_of_a_large_prompt_are_refused_before_it_is_copied(http: httpx.AsyncClient) -> None:
    large = "x" * (MOST_COPIED // 8)
    for body, status in (
        ({"prompt": large, "n": 8}, 400),
        ({"prompt": [large, large], "best_of": 8}, 400),
        ({"prompt": large, "n": 7}, 200),
        ({"prompt": [large[:1000]] * 40}, 200),
    ):
        answer = await http.post("/v1/completions", json={"model": MODEL} | body)
        assert answer.status_code == status, answer.text[:300]
        if status == 400:
            assert answer.json()["error"]["param"] == "n" and "choices, not 8" in answer.json()["error"]["message"]
