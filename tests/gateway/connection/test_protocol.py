"""A connection may send only so much before, after and instead of a request."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster

ASK = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}).encode()
CHUNK = b"%x\r\n%b\r\n0\r\n" % (len(ASK), ASK)
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
LAST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PATIENCE = 20  # seconds


@asynccontextmanager
async def connection(url: str) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def said(url: str, *pieces: bytes) -> bytes:
    """All that comes back until the server ends the connection."""
    async with connection(url) as (reader, writer), asyncio.timeout(PATIENCE):
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b""


async def test_a_key_in_a_trailer_is_none(cluster: ScriptedCluster) -> None:
    key = b"Authorization: Bearer sk-1\r\n"
    last = b"Connection: close\r\n"
    async with gateway(cluster, api_keys=["team:sk-1"]) as url:
        assert b" 200 OK" in await said(url, HEAD + key + last + b"\r\n" + CHUNK + b"X-More: y\r\n\r\n")
        assert b" 401 " in await said(url, HEAD + last + b"\r\n" + CHUNK + key + b"\r\n")


@pytest.mark.parametrize("after", [b"X-T: " + b"a" * 65536, b"X-T: a\r\n" * 8192])
async def test_endless_trailers_end_the_connection(url: str, after: bytes) -> None:
    answer = await said(url, HEAD + b"\r\n" + CHUNK, *[after] * 100)
    assert answer == b"" or b" 431 " in answer[:20]


async def test_a_body_that_is_too_large_ends_the_connection(cluster: ScriptedCluster) -> None:
    async with gateway(cluster, max_body_bytes=2000) as url:
        answer = await said(url, HEAD + b"\r\n", *[b"10000\r\n" + b" " * 65536 + b"\r\n"] * 100)
        assert answer == b"" or b" 413 " in answer[:20]
        small = b"7d0\r\n" + b" " * 2000 + b"\r\n"
        answer = await said(
            url,
            HEAD + b"\r\n",
            small * 2 + b"0\r\n\r\n" + LAST,
        )
        assert b" 413 " in answer[:20] and b" 200 OK" in answer  # little is left of it: the connection lives on


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (b"", b"400"),
        (b"Host: localhost\r\n" * 2, b"400"),
        (b"Host: localhost\r\n", b"200"),
        (b"Host:\r\n", b"200"),
    ],
)
async def test_a_request_names_one_host(url: str, hosts: bytes, status: bytes) -> None:
    answer = await said(url, b"GET /v1/models HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
    assert answer.split()[1] == status
    assert b" 200 OK" in await said(url, b"GET /v1/models HTTP/1.0\r\n\r\n")  # which knew no hosts


async def test_what_is_no_http_is_told_so_as_json_with_an_id(url: str) -> None:
    head, _, body = (await said(url, b"hello, is this a mill?\r\n\r\n")).partition(b"\r\n\r\n")
    assert b" 400 " in head and b"x-request-id: req_" in head and b"application/json" in head
    error = json.loads(body)["error"]
    assert error["type"] == "invalid_request_error" and "HTTP/1.1" in error["message"]


async def test_rubbish_after_a_request_does_not_come_into_its_answer(url: str, cluster: ScriptedCluster) -> None:
    cluster.queue.at_first = 2
    body = json.dumps(json.loads(ASK) | {"stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with connection(url) as (reader, writer), asyncio.timeout(PATIENCE):
        writer.write(head + body)
        assert b" 200 OK" in await reader.readuntil(b"Hello")
        writer.write(b"\x00\x01 rubbish \r\n\r\n")
        assert b"HTTP/1.1 400" not in await reader.read()


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n"])
async def test_who_sends_no_head_is_not_waited_for(cluster: ScriptedCluster, sent: bytes) -> None:
    async with gateway(cluster, head_timeout=0.2) as url:
        assert await said(url, sent) == b""
        whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        async with connection(url) as (reader, writer), asyncio.timeout(PATIENCE):
            writer.write(whole)
            assert b" 200 OK" in await reader.readuntil(b"}")
            await asyncio.sleep(0.5)  # between two requests another clock runs: that of the keep-alive
            writer.write(whole + sent)
            assert b" 200 OK" in await reader.readuntil(b"}")
            if sent:
                assert await reader.read() == b""


@pytest.mark.parametrize("key", [b"", b"Authorization: Bearer sk-1\r\n"])
async def test_a_body_that_stops_coming_is_not_waited_for(cluster: ScriptedCluster, key: bytes) -> None:
    async with gateway(cluster, api_keys=["team:sk-1"], body_timeout=0.2) as url:
        answer = await said(url, HEAD + key + b"\r\n" + CHUNK[:20])
        assert (b" 408 " if key else b" 401 ") in answer[:20]
        if key:
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"


async def test_a_body_that_comes_slowly_is_taken(cluster: ScriptedCluster) -> None:
    async with (
        gateway(cluster, body_timeout=0.5) as url,
        connection(url) as (reader, writer),
        asyncio.timeout(PATIENCE),
    ):
        writer.write(HEAD + b"Connection: close\r\n\r\n")
        for each in ASK:
            writer.write(b"1\r\n%c\r\n" % each)
            await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")
        assert b" 200 OK" in await reader.read()
