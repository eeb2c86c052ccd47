"""A gateway that is told to stop: open streams end well or say how to go on, and nobody's job is cancelled for it."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.gateway.app import listen, server
from millstream.gateway.connection.disconnect import ClientWatch
from millstream.gateway.connection.sse import CUT_INTERVAL, DrainNotifier
from millstream.gateway.queue.client import Admission, Submission
from millstream.gateway.services.cluster import ClusterServices
from millstream.gateway.settings import GatewaySettings
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster
from tests.harness.support import wait_until

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
CHAT = "/v1/chat/completions"
PROGRAM = Path(__file__).parents[1] / "slow_gateway.py"


async def started() -> tuple[asyncio.subprocess.Process, str]:
    """A gateway in a process of its own, for signals, whose one job makes a token every 20 ms for two seconds."""
    root = str(Path(__file__).parents[3])
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": root}
    )
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


async def unready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/ready")).status_code == 503


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns what is logged as an error: nothing that is done on purpose."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def read_of(http: httpx.AsyncClient, headers: dict[str, str]) -> tuple[str, bool]:
    """Returns what came of a stream, and whether it had an end."""
    text = ""
    async with http.stream("POST", CHAT, json=ASK, headers=headers) as answer:
        try:
            async for part in answer.aiter_text():
                text += part
        except httpx.RemoteProtocolError:
            return text, False
    return text, True


async def test_open_streams_finish_and_those_whose_clients_come_back_are_sent_elsewhere() -> None:
    process, url = await started()
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            asked = [
                asyncio.create_task(read_of(http, headers))
                for headers in ({}, {"idempotency-key": "key"}, {"x-millstream-resumable": "true"})
            ]

            async def all_open() -> bool:
                return "open_requests 4.0" in (await http.get("/metrics")).text

            await wait_until(all_open, what="the streams are open")
            process.send_signal(signal.SIGTERM)
            await wait_until(lambda: unready(http), what="it says that it is not ready")
            refused = await http.post(CHAT, json=ASK)
            assert refused.status_code == 503 and "stopping" in refused.json()["error"]["message"]
            assert refused.headers["retry-after"] == "1" and (await http.get("/health")).status_code == 200
            *staying, (sent_on, had_an_end) = [await task for task in asked]
        for text, whole in staying:
            assert whole and text.endswith("data: [DONE]\n\n") and text.count("token") == 100
        assert sent_on.endswith("\n\nretry: 1000\n") and not had_an_end, "or it would look whole"
        assert "[DONE]" not in sent_on and sent_on.count("token") < 100
        assert await process.wait() in (0, -signal.SIGTERM)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_stopping_cancels_no_resumable_job(cluster: ScriptedCluster) -> None:
    cluster.queue.at_first = 2
    async with gateway(cluster) as url, httpx.AsyncClient(base_url=url) as http:
        asking = asyncio.create_task(http.post(CHAT, json=ASK, headers={"x-millstream-resumable": "true"}))
        await wait_until(lambda: cluster.queue.job_streams, what="the job is followed")
        asking.cancel()
    assert cluster.queue.cancelled == [] and cluster.queue.job_streams == 0


async def test_a_stream_that_outlives_the_drain_window_is_cut_off_and_does_not_look_whole(
    cluster: ScriptedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.queue.at_first = 2
    read = b""

    async def reading(url: str) -> None:
        nonlocal read
        async with httpx.AsyncClient(base_url=url) as http, http.stream("POST", CHAT, json=ASK) as answer:
            async for part in answer.aiter_bytes():
                read += part

    async with gateway(cluster, drain=0.1) as url:
        asking = asyncio.create_task(reading(url))
        await wait_until(lambda: b"Hello" in read, what="the stream has begun")
    with pytest.raises(httpx.RemoteProtocolError):
        await asking
    assert read.endswith(b"\nretry: 1000\n") and b"[DONE]" not in read
    assert cluster.queue.job_streams == 0
    assert not complaints(caplog)


async def test_whole_answers_and_streams_not_begun_that_outlive_the_drain_window_are_refused(
    cluster: ScriptedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.queue.at_first = 0
    async with httpx.AsyncClient(timeout=30) as http:
        async with gateway(cluster, drain=0.1, first_chunk_wait=60) as url:
            asked = [
                asyncio.create_task(http.post(f"{url}{CHAT}", json=ASK | {"stream": each})) for each in (False, True)
            ]
            await wait_until(lambda: cluster.queue.job_streams == 2, what="both are followed")
        for answer in [await task for task in asked]:
            assert answer.status_code == 503 and "stopping" in answer.json()["error"]["message"]
    assert cluster.queue.job_streams == 0 and cluster.queue.cancelled == [] and not complaints(caplog)


async def test_a_request_whose_jobs_are_submitted_too_late_is_refused(
    cluster: ScriptedCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, tell = cluster.queue.submit, DrainNotifier.tell
    asked, told = asyncio.Event(), asyncio.Event()
    cluster.queue.at_first = 0

    async def late(submission: Submission) -> Admission:
        asked.set()
        await told.wait()
        await asyncio.sleep(3 * CUT_INTERVAL)
        return await submit(submission)

    def noticed(notifier: DrainNotifier) -> None:
        tell(notifier)
        told.set()

    monkeypatch.setattr(cluster.queue, "submit", late)
    monkeypatch.setattr(DrainNotifier, "tell", noticed)
    async with httpx.AsyncClient(timeout=30) as http:
        async with gateway(cluster, drain=0) as url:
            asking = asyncio.create_task(http.post(f"{url}{CHAT}", json=ASK))
            await asked.wait()
        assert (await asking).status_code == 503
    assert len(cluster.queue.jobs) == 1 and not complaints(caplog)


async def test_what_the_server_cancels_in_the_end_ends_quietly(
    cluster: ScriptedCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway too busy to cut all off in time, or whose clients' sockets are full."""
    monkeypatch.setattr("millstream.gateway.http.drain.CLOSE_GRACE", 0)
    monkeypatch.setattr(ClientWatch, "interrupt", lambda *_: None)
    cluster.queue.at_first = 2
    submitting = asyncio.Event()

    async def unanswered(_: Submission) -> Admission:
        submitting.set()
        return await asyncio.Future[Admission]()

    async with httpx.AsyncClient(timeout=30) as http:
        async with gateway(cluster, drain=0) as url:
            begun = asyncio.create_task(http.post(f"{url}{CHAT}", json=ASK))
            await wait_until(lambda: cluster.queue.job_streams, what="the stream has begun")
            monkeypatch.setattr(cluster.queue, "submit", unanswered)
            waiting = asyncio.create_task(http.post(f"{url}{CHAT}", json=ASK))
            await submitting.wait()
        with pytest.raises(httpx.RemoteProtocolError):
            await begun
        assert (await waiting).status_code == 503 and "stopping" in (await waiting).json()["error"]["message"]
    assert complaints(caplog) == ["Cancel 2 running task(s), timeout graceful shutdown exceeded"]
    assert cluster.queue.job_streams == 0


async def test_a_gateway_whose_loops_broke_ends_instead_of_standing_there(cluster: ScriptedCluster) -> None:
    """Whoever supervises it starts it anew."""
    breaking = asyncio.Event()

    @asynccontextmanager
    async def connect(settings: GatewaySettings) -> AsyncGenerator[ClusterServices]:
        async def loop() -> None:
            await breaking.wait()
            raise LookupError("a bug of ours")

        async with cluster.connect(settings) as connected, asyncio.TaskGroup() as tasks:
            tasks.create_task(loop())
            yield connected

    settings = GatewaySettings(port=0, drain=0)
    with listen(settings) as listener:
        running = asyncio.create_task(server(settings, connect).serve([listener]))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as http:
            assert (await http.get("/health")).status_code == 200
        breaking.set()
        await asyncio.wait_for(running, 30)
