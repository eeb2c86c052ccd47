"""The short way and the framework's: whatever the body, the same answer and the same job."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from millstream.gateway.http.json_route import is_json, short_ways
from millstream.gateway.http.routes import ROUTERS
from tests.gateway.scripted import MODEL, ScriptedCluster

CHAT = "/v1/chat/completions"
GENERAL = "application/anything+json"  # JSON as well, but not called plainly so: the framework reads it
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
    "something behind it": PLAIN + b"x",
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


async def asked(http: httpx.AsyncClient, cluster: ScriptedCluster, body: bytes, kind: str) -> tuple[Any, ...]:
    """The answer without what is new in each, and the jobs."""
    cluster.queue.jobs.clear()
    answer = await http.post(CHAT, content=body, headers={"content-type": kind})
    told = answer.json()
    for name in ("id", "created"):
        told.pop(name, None)
    return answer.status_code, told, repr(cluster.queue.requests)


@pytest.mark.parametrize("name", BODIES)
async def test_both_ways_tell_the_same(http: httpx.AsyncClient, cluster: ScriptedCluster, name: str) -> None:
    short = await asked(http, cluster, BODIES[name], "application/json")
    assert short == await asked(http, cluster, BODIES[name], GENERAL)
    assert short[0] in (200, 400)


async def test_a_body_that_comes_in_parts_and_does_not_fit_is_read_once_more(http: httpx.AsyncClient) -> None:
    whole = json.dumps({"model": MODEL, "messages": "x" * 300_000}).encode()

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(whole), 100_000):
            yield whole[at : at + 100_000]

    answer = await http.post(CHAT, content=parts(), headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "messages"


def test_every_endpoint_that_makes_jobs_has_a_short_way() -> None:
    ways = short_ways(ROUTERS)
    made = {"chat/completions", "completions", "responses", "messages", "embeddings", "rerank", "score", "tokenize"}
    assert {f"/v1/{name}" for name in made} <= set(ways)


@pytest.mark.parametrize(
    "called", ["application/json", "Application/JSON; charset=utf-8", "application/x-www-form-urlencoded"]
)
def test_what_is_called_json(called: str) -> None:
    assert is_json({"headers": [(b"content-type", called.encode())]}) and is_json({"headers": []})
    assert not is_json({"headers": [(b"content-type", b"application/jsonl")]})
