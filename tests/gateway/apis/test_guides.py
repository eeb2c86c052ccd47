"""The one grammar a request may ask for, and which parameter a worker's refusal of it names."""

from typing import Any

import httpx
import pytest

from millstream.common.chunk import Chunk, Failure
from millstream.common.job import Guide, JobRequest
from tests.gateway.scripted import MODEL, ScriptedCluster

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}
WRITTEN = '{"type":"object","properties":{"b":{},"a":{}}}'


def refusing(request: JobRequest) -> list[Chunk]:
    assert request.guide is not None
    return [Chunk(error=Failure("invalid_grammar", "too large", request.guide.param))]


@pytest.mark.parametrize(
    ("fields", "guide"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            Guide("json_schema", WRITTEN, "response_format.json_schema.schema"),
        ),
        ({"response_format": {"type": "json_object"}}, Guide("json_object", "", "response_format")),
        ({"guided_json": SCHEMA}, Guide("json_schema", WRITTEN, "guided_json")),
        ({"guided_json": WRITTEN}, Guide("json_schema", WRITTEN, "guided_json")),
        ({"guided_regex": "a+"}, Guide("regex", "a+", "guided_regex")),
        ({"guided_choice": ["a", "ä"]}, Guide("choice", '["a","ä"]', "guided_choice")),
        ({"guided_grammar": 'start: "a"'}, Guide("grammar", 'start: "a"', "guided_grammar")),
    ],
    ids=str,
)
async def test_a_refusal_names_the_parameter_the_client_wrote(
    http: httpx.AsyncClient, cluster: ScriptedCluster, fields: dict[str, Any], guide: Guide
) -> None:
    cluster.queue.script = refusing
    answer = await http.post("/v1/chat/completions", json=ASK | fields)
    assert [request.guide for request in cluster.queue.requests] == [guide]
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_grammar", guide.param)


async def test_two_at_once_are_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", json=ASK | {"guided_regex": "a", "guided_choice": ["a"]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "guided_regex")
