"""Clients that leave: noticed while the job waits, before its first chunk and while tokens flow, streaming or not."""

import asyncio
import contextlib
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message

from millstream.gateway.connection.disconnect import ClientGone, ClientWatch
from tests.gateway.scripted import MODEL, ScriptedCluster
from tests.harness.support import wait_until

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


async def leave(http: httpx.AsyncClient, cluster: ScriptedCluster, body: dict[str, Any], **headers: str) -> None:
    """Sends the request and drops its connection once its jobs are followed."""
    asking = asyncio.create_task(http.post(CHAT, json=body, headers=headers))
    await wait_until(lambda: cluster.queue.job_streams, what="the jobs are followed")
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("happened", [0, 1, 2])
async def test_leaving_cancels(http: httpx.AsyncClient, cluster: ScriptedCluster, stream: bool, happened: int) -> None:
    cluster.queue.at_first = happened
    await leave(http, cluster, ASK | {"stream": stream, "n": 2})
    await wait_until(lambda: len(cluster.queue.cancelled) == 2, what="both jobs are cancelled")
    assert set(cluster.queue.cancelled) == set(cluster.queue.jobs)
    await wait_until(lambda: cluster.queue.job_streams == 0, what="nobody follows any more")


@pytest.mark.parametrize("stream", [False, True])
async def test_resumable_jobs_run_on(http: httpx.AsyncClient, cluster: ScriptedCluster, stream: bool) -> None:
    cluster.queue.at_first = 2
    await leave(http, cluster, ASK | {"stream": stream}, **{"x-millstream-resumable": "true"})
    await wait_until(lambda: cluster.queue.job_streams == 0, what="nobody follows any more")
    assert (await http.get("/metrics")).text.count("departures_total{") == 1
    assert cluster.queue.cancelled == []


class ScriptedMessages:
    """The messages that a request hears of its client."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.client = ClientWatch(Request({"type": "http", "headers": []}, self.receive), set())

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}


async def test_work_for_a_client_that_left_is_interrupted_and_what_follows_is_not() -> None:
    connection = ScriptedMessages()
    asyncio.get_running_loop().call_soon(connection.left.set)
    with pytest.raises(ClientGone), connection.client:
        await asyncio.Event().wait()
    await asyncio.sleep(0)  # tidying up
    connection.client.release()


async def test_a_client_that_left_between_two_pieces_of_work_is_missed_before_the_second() -> None:
    connection = ScriptedMessages()
    with connection.client:
        await asyncio.sleep(0)
    connection.left.set()
    await wait_until(lambda: connection.client._reason)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(ClientGone), connection.client:
        raise AssertionError("nobody is there to work for")
    await asyncio.sleep(0)
    connection.client.release()


async def test_a_process_that_stops_is_not_taken_for_a_client_that_left() -> None:
    connection = ScriptedMessages()

    async def work() -> None:
        with connection.client:
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    connection.client.release()


async def test_a_complete_answer_cancels_nothing(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    for stream in (False, True):
        assert (await http.post(CHAT, json=ASK | {"stream": stream})).status_code == 200
    assert cluster.queue.cancelled == [] and cluster.queue.job_streams == 0
