"""Streams written straight to the client's socket: a slow reader makes them lag, a lost one ends them."""

import asyncio
import re
import socket
from typing import Any

import httpx
import msgspec
import pytest

from millstream.gateway.connection.outlet import Outlet
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster, said
from tests.harness.support import wait_until

WORD, WORDS = "x" * 20_000, 800  # more than the buffers of two sockets hold
BODY = msgspec.json.encode({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True})
HEAD = [
    "POST /v1/chat/completions HTTP/1.1",
    "host: localhost",
    "content-type: application/json",
    "connection: close",
    f"content-length: {len(BODY)}",
]


async def ask(url: str) -> socket.socket:
    """Asks for a stream and reads none of it."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    made.setblocking(False)
    address = httpx.URL(url)
    await asyncio.get_running_loop().sock_connect(made, (address.host, address.port))
    await asyncio.get_running_loop().sock_sendall(made, "\r\n".join([*HEAD, "", ""]).encode() + BODY)
    return made


async def lagging(cluster: ScriptedCluster) -> bool:
    """Lets one more chunk happen, and tells whether the stream lags."""
    await cluster.queue.advance()
    return cluster.queue.lagging > 0


@pytest.fixture
def wordy(cluster: ScriptedCluster) -> ScriptedCluster:
    cluster.queue.script = lambda _: said(*(f"{index:04d}{WORD}" for index in range(WORDS)))
    cluster.queue.at_first = 1
    return cluster


async def test_a_slow_reader_makes_its_stream_lag_and_misses_nothing(url: str, wordy: ScriptedCluster) -> None:
    with await ask(url) as slow:
        await wait_until(lambda: lagging(wordy), what="the stream lags")
        [job] = wordy.queue.jobs.values()
        assert job.happened < WORDS, "the gateway holds less than the socket's buffers"
        await wordy.queue.advance(WORDS + 2)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
        text = bytearray()
        while part := await asyncio.get_running_loop().sock_recv(slow, 2**16):
            text += part
    assert [int(number) for number in re.findall(rb'"(\d{4})x{20000}"', text)] == list(range(WORDS))
    assert b"data: [DONE]" in text


async def test_a_reader_that_leaves_while_its_socket_is_full_is_noticed(url: str, wordy: ScriptedCluster) -> None:
    with await ask(url):
        await wait_until(lambda: lagging(wordy), what="the stream lags")
    await wait_until(lambda: wordy.queue.cancelled == list(wordy.queue.jobs), what="the job is cancelled")
    assert wordy.queue.job_streams == wordy.queue.lagging == 0


async def test_a_bug_in_an_event_ends_its_stream_with_an_error_and_no_good_end(
    http: httpx.AsyncClient, cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> bytes:
        raise LookupError("a bug of ours")

    cluster.queue.at_first = 1
    text = ""
    with pytest.raises(httpx.RemoteProtocolError):
        async with http.stream("POST", "/v1/chat/completions", content=BODY, headers=JSON) as answer:
            monkeypatch.setattr("millstream.gateway.apis.chat.write.ChatStream.event", broken)
            await cluster.queue.advance()
            async for part in answer.aiter_text():
                text += part
    assert '"error"' in text and "a bug" not in text and "[DONE]" not in text


async def test_what_is_read_from_the_log_does_not_wait_until_the_head_was_sent(cluster: ScriptedCluster) -> None:
    async with gateway(cluster, first_chunk_wait=60) as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
        answer = await http.post("/v1/chat/completions", content=BODY, headers=JSON)
    assert answer.text.endswith("data: [DONE]\n\n")


JSON = {"content-type": "application/json"}


def test_streams_refuse_a_server_whose_socket_they_do_not_know() -> None:
    with pytest.raises(RuntimeError, match="httptools"):
        Outlet({"type": "http"})
