"""Odd requests to every route of `/openapi.json`: each is answered as the document tells, none by a 5xx. The bodies and
ids are of the kinds a fuzzer finds first; `make fuzz` tries thousands more."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio

from tests.gateway.background.cluster import gateway

MODEL = b"simulated"
BODIES = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b"{}",
    b"\xff\xfe",
    b"NaN",
    b'{"model": 1e999}',
    b'{"model": null, "messages": {}, "input": {}, "prompt": {}}',
    b'{"model": "\\ud800", "messages": [], "input": "\\ud800", "prompt": "\\u0000"}',
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
    b'{"model": "%s", "model": "%s"}' % (MODEL, MODEL),
    b'{"model": "%s", "messages": [null], "input": [null], "prompt": [null], "stream": "yes"}' % MODEL,
]
IDS = ["x", "%00", "%2F", "..%2F..", "%F0%9F%92%A7", "x" * 500, "%25"]
QUERIES = ["", "?limit=-1", "?limit=1e3&after=%00&order=x", "?stream=maybe", "?limit=99999999999999999999"]


async def asked(http: httpx.AsyncClient, method: str, path: str, body: bytes, told: dict[str, Any]) -> None:
    """The answer has a status below 500, if it is not about nobody being there, and the content type that the document
    tells for it."""
    async with http.stream(method, path, content=body, headers={"content-type": "application/json"}) as answer:
        text = await answer.aread() if answer.is_error else b"(some streams have no end)"
    assert answer.status_code < 500 or path.startswith("/ready"), (method, path, body[:80], text)
    said = told.get(str(answer.status_code)) or told["4XX" if answer.status_code >= 400 else "200"]
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind in said["content"], (method, path, body[:80], kind)


@pytest_asyncio.fixture
async def http(redis_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with its storage and nobody who answers: what is well-formed asks for a model that is not there."""
    async with gateway(redis_url, tmp_path) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
        yield http


async def operations(http: httpx.AsyncClient) -> list[tuple[str, str, dict[str, Any]]]:
    """Every method and path, with the answers that the document tells. Those of keys come last: from the first key on
    the gateway demands one."""
    paths = (await http.get("/openapi.json")).json()["paths"]
    found = [(method.upper(), path, told["responses"]) for path, of in paths.items() for method, told in of.items()]
    return sorted(found, key=lambda operation: operation[1].startswith("/v1/keys"))


async def test_odd_bodies(http: httpx.AsyncClient) -> None:
    for method, path, told in await operations(http):
        for body in BODIES if method == "POST" else ():
            await asked(http, method, re.sub(r"{[^}]*}", "x", path), body, told)


async def test_odd_ids_and_queries(http: httpx.AsyncClient) -> None:
    for method, path, told in await operations(http):
        for odd in IDS if "{" in path else ():
            await asked(http, method, re.sub(r"{[^}]*}", odd, path), b"{}", told)
        for query in QUERIES if method == "GET" else ():
            await asked(http, method, re.sub(r"{[^}]*}", "x", path) + query, b"", told)
