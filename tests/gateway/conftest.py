"""A real uvicorn on a free port, the official client, and a scripted queue."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from millstream.gateway.settings import GatewaySettings
from tests.gateway.scripted import ScriptedCluster
from tests.gateway.strict import hold_every_answer
from tests.harness.serving import serving


@asynccontextmanager
async def gateway(cluster: ScriptedCluster, **settings: Any) -> AsyncIterator[str]:
    """Yields the gateway's base URL."""
    chosen = GatewaySettings(**{"port": 0, "drain": 1.0, **settings})
    async with serving(chosen, cluster.connect) as url:
        yield url


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_every_answer(monkeypatch)


@pytest.fixture
def cluster() -> ScriptedCluster:
    return ScriptedCluster()


def let_see(cluster: ScriptedCluster) -> None:
    """Has the cluster's model read images."""
    [info] = cluster.directory.listed
    cluster.directory.listed = [replace(info, capabilities=("chat", "completions", "images"))]


@pytest.fixture
def seeing(cluster: ScriptedCluster) -> ScriptedCluster:
    """A cluster whose model reads images."""
    let_see(cluster)
    return cluster


@pytest_asyncio.fixture
async def url(cluster: ScriptedCluster) -> AsyncIterator[str]:
    async with gateway(cluster) as address:
        yield address


@pytest_asyncio.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest_asyncio.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=20) as made:
        yield made


@pytest_asyncio.fixture
async def patient_url(cluster: ScriptedCluster) -> AsyncIterator[str]:
    """A gateway that does not wait for a first chunk."""
    async with gateway(cluster, first_chunk_wait=0.05) as address:
        yield address


@pytest.fixture
def sync_url(cluster: ScriptedCluster) -> Iterator[str]:
    """Yields the same server on a loop of its own, for clients that block."""
    ready, stop, found = threading.Event(), threading.Event(), list[str]()

    async def serve() -> None:
        async with gateway(cluster) as address:
            found.append(address)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(20)
    yield found[0]
    stop.set()
    thread.join(20)
