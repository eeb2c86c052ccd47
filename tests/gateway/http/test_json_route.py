"""The one way in for JSON: whatever the body, the answer and the job that `json_answers.json` has for it, also where
the framework finds the route instead of the table."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import pytest_asyncio
from fastapi import APIRouter

from millstream.gateway.apis.chat import route as chat
from millstream.gateway.apis.chat.shape import ChatRequest
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.app import create_app
from millstream.gateway.http.json_dispatch import json_routes
from millstream.gateway.http.routes import ROUTERS
from millstream.gateway.settings import GatewaySettings
from tests.gateway.scripted import MODEL, ScriptedCluster

CHAT = "/v1/chat/completions"
FOUND = "/found"  # below it stand the same routes, which only the framework finds
ANSWERS: dict[str, list[Any]] = json.loads((Path(__file__).parent / "json_answers.json").read_text())
MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'
HEAD = b'{"model":"%b","seed":1,' % MODEL.encode()
PLAIN = HEAD + MESSAGES + b"}"

BODIES = {
    "plain": PLAIN,
    "unknown fields": HEAD + MESSAGES + b',"nonsense":[1,{"a":null}]}',
    "white space": b"\n " + PLAIN.replace(b",", b" ,\t") + b" \r\n",
    "escapes": PLAIN.replace(b"hi", b"\\u00e9\\ud83d\\ude00 \\/\\n\\u0000"),
    "the same name twice": HEAD + MESSAGES + b',"n":1,"n":2,"max_tokens":"x","max_tokens":3}',
    "the same name twice, deep down": HEAD + b'"messages":[{"role":"user","role":"assistant","content":"hi"}]}',
    "an integer for a decimal": HEAD + MESSAGES + b',"temperature":1,"top_p":0}',
    "a decimal for an integer": HEAD + MESSAGES + b',"max_tokens":4.0}',
    "an exponent for an integer": HEAD + MESSAGES + b',"max_tokens":1e1}',
    "minus nought": HEAD + MESSAGES + b',"max_tokens":-0,"temperature":-0.0}',
    "text for an integer": HEAD + MESSAGES + b',"max_tokens":"4"}',
    "true for an integer": HEAD + MESSAGES + b',"n":true}',
    "one for true": HEAD + MESSAGES + b',"logprobs":1}',
    "no number": HEAD + MESSAGES + b',"temperature":NaN}',
    "no number where anything may be": HEAD + MESSAGES + b',"chat_template_kwargs":{"a":NaN,"b":-Infinity}}',
    "a number too large": HEAD + MESSAGES + b',"temperature":1e999}',
    "an integer too large": HEAD + MESSAGES + b',"chat_template_kwargs":{"a":%d}}' % 10**30,
    "an integer that is thousands of digits long": HEAD
    + MESSAGES
    + b',"chat_template_kwargs":{"a":1%b}}' % (b"0" * 5000),
    "a long fraction": HEAD + MESSAGES + b',"temperature":0.1000000000000000055511151231257827}',
    "half a surrogate pair": PLAIN.replace(b"hi", b"\\ud800"),
    "half a surrogate pair in a name": HEAD + MESSAGES + b',"chat_template_kwargs":{"\\udfff":1}}',
    "not UTF-8": PLAIN.replace(b"hi", b"\xff\xfe"),
    "UTF-16": PLAIN.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "nested deep": HEAD + MESSAGES + b',"chat_template_kwargs":{"a":%b}}' % (b"[" * 300 + b"]" * 300),
    "nested too deep": b"[" * 100_000,
    "nothing": b"",
    "null": b"null",
    "an array": b"[]",
    "text": b'"hi"',
    "no JSON": b"{'model': 1}",
    "a comma too many": PLAIN[:-1] + b",}",
    "something after it": PLAIN + b"x",
    "a control character": PLAIN.replace(b"hi", b"h\x01i"),
    "cut off": PLAIN[:-5],
    "no messages": HEAD[:-1] + b"}",
    "no message": HEAD + b'"messages":[]}',
    "another role": PLAIN.replace(b'"user"', b'"stranger"'),
    "parts": PLAIN.replace(b'"hi"', b'[{"type":"text","text":"hi"},{"type":"text"}]'),
    "a stop of each kind": HEAD + MESSAGES + b',"stop":["a","b",7]}',
    "a bias": HEAD + MESSAGES + b',"logit_bias":{"5":1,"x":2}}',
    "metadata": HEAD + MESSAGES + b',"metadata":{"a":"b"},"store":true}',
    "a schema": HEAD
    + MESSAGES
    + b',"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object"}}}}',
}


@pytest_asyncio.fixture
async def app(cluster: ScriptedCluster) -> AsyncIterator[httpx.AsyncClient]:
    made = create_app(GatewaySettings(), cluster.connect)
    made.include_router(chat.router, prefix=FOUND)
    async with (
        made.router.lifespan_context(made),
        httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url="http://localhost") as http,
    ):
        yield http


def flat(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every leaf of a job, by its path."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flat(inner, f"{path}.{name}" if path else name)
    else:
        yield path, value


async def told(http: httpx.AsyncClient, cluster: ScriptedCluster, path: str, body: bytes) -> list[Any]:
    """The error's status, parameter, code and words; or the jobs' fields."""
    cluster.queue.jobs.clear()
    answer = await http.post(path, content=body, headers={"content-type": "application/json"})
    if answer.status_code != 200:
        error = answer.json()["error"]
        return [answer.status_code, error["param"], error["code"], error["message"]]
    return [dict(flat(json.loads(msgspec.json.encode(job)))) for job in cluster.queue.requests]


@pytest.mark.parametrize("path", [CHAT, FOUND + CHAT])
@pytest.mark.parametrize("name", BODIES)
async def test_every_body_has_its_answer(
    app: httpx.AsyncClient, cluster: ScriptedCluster, name: str, path: str
) -> None:
    plain = (await told(app, cluster, path, PLAIN))[0]
    found = await told(app, cluster, path, BODIES[name])
    if isinstance(found[0], dict):  # jobs, of which what is not as in the plain body's is compared
        found = [{at: value for at, value in job.items() if plain.get(at, "absent") != value} for job in found]
    assert found == ANSWERS[name]


async def test_a_body_that_comes_in_parts_and_does_not_fit_is_refused(http: httpx.AsyncClient) -> None:
    whole = json.dumps({"model": MODEL, "messages": "x" * 300_000}).encode()

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(whole), 100_000):
            yield whole[at : at + 100_000]

    answer = await http.post(CHAT, content=parts(), headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "messages"


def test_every_endpoint_that_makes_jobs_is_in_the_table() -> None:
    routes = json_routes(ROUTERS)
    made = {"chat/completions", "completions", "responses", "messages", "embeddings", "rerank", "score", "tokenize"}
    assert {f"/v1/{name}" for name in made} <= set(routes)


def test_every_json_body_is_read_by_the_one_way() -> None:
    routes = [route for router in ROUTERS for route in router.routes if getattr(route, "body_field", None)]
    assert routes and all(isinstance(route, JsonRoute) for route in routes)


def test_an_endpoint_of_another_form_is_refused_when_it_is_declared() -> None:
    async def endpoint(request: ChatRequest) -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="expected an endpoint"):
        APIRouter(route_class=JsonRoute).post("/x")(endpoint)


@pytest.mark.parametrize(
    "called",
    [
        *("application/json", "Application/JSON; charset=utf-8", "application/anything+json"),
        *("application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=utf-8"),
    ],
)
async def test_what_is_called_json(http: httpx.AsyncClient, called: str) -> None:
    assert (await http.post(CHAT, content=PLAIN, headers={"content-type": called})).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [("content-type", "application/jsonl"), ("content-type", "text/plain"), ("content-encoding", "gzip")],
)
async def test_what_is_not_called_so_is_refused_whatever_it_is(http: httpx.AsyncClient, name: str, value: str) -> None:
    error = (await http.post(CHAT, content=PLAIN, headers={name: value})).json()["error"]
    assert value in error["message"] and error["code"] == f"unsupported_{name.replace('-', '_')}"
