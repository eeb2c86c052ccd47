"""Clients that leave: noticed while the job waits, before its first chunk and while tokens flow, streaming or not."""

import asyncio
import contextlib
from typing import Any

import httpx
import pytest

from tests.gateway.scripted import MODEL, ScriptedCluster
from tests.support import wait_until

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


async def leave(http: httpx.AsyncClient, cluster: ScriptedCluster, body: dict[str, Any], **headers: str) -> None:
    """Sends the request and drops its connection once its jobs are followed."""
    asking = asyncio.create_task(http.post(CHAT, json=body, headers=headers))
    await wait_until(lambda: cluster.dispatch.followers, what="the jobs are followed")
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("happened", [0, 1, 2])
async def test_leaving_cancels(http: httpx.AsyncClient, cluster: ScriptedCluster, stream: bool, happened: int) -> None:
    cluster.dispatch.at_first = happened
    await leave(http, cluster, ASK | {"stream": stream, "n": 2})
    await wait_until(lambda: len(cluster.dispatch.cancelled) == 2, what="both jobs are cancelled")
    assert set(cluster.dispatch.cancelled) == set(cluster.dispatch.jobs)
    await wait_until(lambda: cluster.dispatch.followers == 0, what="nobody follows any more")


@pytest.mark.parametrize("stream", [False, True])
async def test_resumable_jobs_run_on(http: httpx.AsyncClient, cluster: ScriptedCluster, stream: bool) -> None:
    cluster.dispatch.at_first = 2
    await leave(http, cluster, ASK | {"stream": stream}, **{"x-millstream-resumable": "true"})
    await wait_until(lambda: cluster.dispatch.followers == 0, what="nobody follows any more")
    assert (await http.get("/metrics")).text.count("departures_total{") == 1
    assert cluster.dispatch.cancelled == []


async def test_a_complete_answer_cancels_nothing(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    for stream in (False, True):
        assert (await http.post(CHAT, json=ASK | {"stream": stream})).status_code == 200
    assert cluster.dispatch.cancelled == [] and cluster.dispatch.followers == 0
