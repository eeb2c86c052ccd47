"""HTTP as software in front of and around a gateway expects it: pipelining, HEAD, OPTIONS, slashes, prefixes, TLS."""

import asyncio
import json
import re
import ssl
from pathlib import Path

import httpx
import pytest

from millstream.gateway.http.normalize import canonical
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster, said

CHAT = "/v1/chat/completions"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


def request_bytes(method: str, path: str, body: bytes = b"", last: bool = False) -> bytes:
    close = "Connection: close\r\n" if last else ""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{close}\r\n".encode() + body


async def exchange(url: str, data: bytes) -> str:
    """All a server says to these bytes until it closes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(20):
            return (await reader.read()).decode()
    finally:
        writer.close()


async def test_pipelined_requests_are_answered_whole_and_in_order(url: str, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: said("Hello")
    ask = httpx.Request("POST", url, json=ASK).content
    streamed = httpx.Request("POST", url, json=ASK | {"stream": True}).content
    answers = await exchange(
        url,
        request_bytes("POST", CHAT, streamed)
        + request_bytes("POST", CHAT, ask)
        + request_bytes("GET", "/v1/models", last=True),
    )
    assert answers.count("HTTP/1.1 200 OK") == 3
    places = [answers.index(mark) for mark in ("[DONE]", '"object":"chat.completion"', '"object":"list"')]
    assert places == sorted(places)


async def test_a_client_of_http_1_0_gets_a_body_without_chunks(url: str, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: said("Hello")
    for stream in (False, True):
        ask = httpx.Request("POST", url, json=ASK | {"stream": stream}).content
        answer = await exchange(url, request_bytes("POST", CHAT, ask).replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, body = answer.partition("\r\n\r\n")
        assert "transfer-encoding" not in head and head.count("connection: ") == 1 and "connection: close" in head
        assert body.startswith("id: ") and body.endswith("data: [DONE]\n\n") if stream else json.loads(body)["choices"]


async def test_head_is_get_without_the_body(http: httpx.AsyncClient) -> None:
    for path in ("/health", "/v1/models"):
        head, get = await http.head(path), await http.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(get.content))
    assert (await http.head("/v1/nothing")).status_code == 404


async def test_wrong_methods_say_which_are_right(http: httpx.AsyncClient) -> None:
    for method, path, right in [
        ("OPTIONS", "/v1/models", "GET, HEAD"),
        ("HEAD", "/v1/embeddings", "POST"),
        ("PUT", "/v1/files", "GET, HEAD, POST"),
        ("PATCH", "/v1/responses/x", "GET, HEAD, DELETE"),
    ]:
        answer = await http.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, right), path


async def test_each_path_allows_what_the_document_says(http: httpx.AsyncClient) -> None:
    """Also where another route would take the path's last word for an id."""
    for path, told in (await http.get("/openapi.json")).json()["paths"].items():
        answer = await http.options(re.sub(r"{[^}]*}", "x", path))
        assert answer.status_code == 405, path
        assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == {method.upper() for method in told}, path


async def test_a_slash_at_the_end_changes_nothing(http: httpx.AsyncClient) -> None:
    assert (await http.post(f"{CHAT}/", json=ASK)).status_code == 200
    assert (await http.get("/v1/models/")).json() == (await http.get("/v1/models")).json()
    assert (await http.get("/v1//models")).status_code == 404


async def test_an_endless_head_is_cut_off(cluster: ScriptedCluster) -> None:
    async with gateway(cluster, max_header_bytes=1024) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Endless: ")
        answer = asyncio.create_task(reader.read())
        try:
            while not answer.done():
                writer.write(b"a" * 65536)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass  # it no longer listens
        try:
            assert b"431" in (await answer)[:16]
        except ConnectionError:
            pass  # the reset overtook the answer
        writer.close()
        small = await exchange(url, request_bytes("GET", "/health", last=True))
        assert "200 OK" in small


async def test_a_request_that_is_none(url: str) -> None:
    for bad in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n"):
        assert "400 Bad Request" in await exchange(url, bad)


def test_paths_mean_the_same_with_and_without_the_prefix() -> None:
    assert canonical("/v1/models/", "") == "/v1/models" and canonical("/", "") == "/"
    assert canonical("/v1/models", "/llm") == canonical("/llm/v1/models/", "/llm") == "/llm/v1/models"
    assert canonical("/llmx", "/llm") == "/llm/llmx"


async def test_below_a_root_path(cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: said("Hello")
    key = {"authorization": "Bearer sk-1"}
    settings = {"root_path": "/llm", "api_keys": ["team:sk-1"], "max_body_bytes": 2000}
    async with gateway(cluster, **settings) as url, httpx.AsyncClient(base_url=url) as http:
        for prefix in ("", "/llm"):  # a proxy may cut it off or not
            assert (await http.get(f"{prefix}/health")).status_code == 200  # open to all
            assert (await http.post(prefix + CHAT, json=ASK)).status_code == 401
            assert (await http.post(prefix + CHAT, json=ASK, headers=key)).status_code == 200
            large = await http.post(f"{prefix}/v1/messages", json={"x": "y" * 3000}, headers=key)
            assert large.status_code == 413 and large.json()["type"] == "error"  # in Anthropic's shape
        described = (await http.get("/llm/openapi.json")).json()
        assert described["servers"] == [{"url": "/llm"}]
        assert "/llm/openapi.json" in (await http.get("/docs")).text


async def test_a_page_of_another_origin_may_not_call_unless_allowed(http: httpx.AsyncClient) -> None:
    asks = {"origin": "https://app.example", "access-control-request-method": "POST"}
    refused = await http.options(CHAT, headers=asks)
    assert refused.status_code == 403 and "access-control-allow-origin" not in refused.headers


async def test_tls_of_its_own(cluster: ScriptedCluster, certificate: tuple[Path, Path]) -> None:
    cluster.queue.script = lambda _: said("Hello")
    made, key = certificate
    trust = ssl.create_default_context(cafile=str(made))
    async with (
        gateway(cluster, ssl_certfile=made, ssl_keyfile=key) as url,
        httpx.AsyncClient(base_url=url.replace("http:", "https:"), verify=trust) as http,
    ):
        answer = await http.post(CHAT, json=ASK | {"stream": True})
        assert answer.status_code == 200 and "[DONE]" in answer.text
        with pytest.raises(httpx.TransportError):
            await httpx.AsyncClient().get(f"{url}/health")
