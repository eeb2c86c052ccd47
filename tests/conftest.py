"""The fixtures that all tests share: one real Valkey per session, empty for each test."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from millstream.common.broker import embedded
from millstream.common.broker.embedded import EmbeddedValkey
from tests.harness.queue_site import Site, open_site

PROCESSES = (
    "abuse",
    "bench",
    "cli",
    "clients",
    "deploy",
    "faults",
    "story",
    "ui",
    "gateway/background",
    "worker/engines/loading/ranks",
)
"""Folders of tests that start, kill and freeze processes, which the system may hold up for seconds at any point."""
SERVERS = {"valkey", "own_valkey"}
"""Fixtures of servers. Their clock goes on, also while the system holds up the test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of processes and of servers get a second try, which the report counts as `rerun`. A fault that shows every
    time fails, and so does a test that hangs: its second try would have no limit."""
    folders = tuple(f"tests/{folder}/" for folder in PROCESSES)
    for item in items:
        waits = item.nodeid.startswith(folders) or SERVERS & set(getattr(item, "fixturenames", ()))
        if waits and not item.get_closest_marker("fuzz"):
            item.add_marker(pytest.mark.flaky(reruns=1, rerun_except="from pytest-timeout"))


def pytest_configure() -> None:
    """Another server takes the embedded Valkey's place: `MILLSTREAM_TEST_SERVER=/usr/bin/redis-server`. Under `nohup`
    the tests' processes hear a hang-up all the same: what is caught here is not inherited, what is ignored would be."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    if server := os.environ.get("MILLSTREAM_TEST_SERVER"):
        embedded.server_binary = lambda: server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the engine tests compute: cpu, cuda, cuda:1, ...")
    parser.addoption("--engine", default="transformers", help="whose tests of engines: transformers, or vllm")
    parser.addoption("--graphs", action="store_true", help="with --device cuda: capture every kind of step")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey shared by the whole session. Tests that kill or freeze a server start their own."""
    with asyncio.Runner() as runner:
        server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
        runner.run(server.__aenter__())
        yield server
        runner.run(server.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def module_valkey(valkey: EmbeddedValkey) -> EmbeddedValkey:
    """The session's Valkey, emptied once, for processes that serve a whole module. Other modules leave keys there."""
    with SyncRedis.from_url(valkey.url) as client:
        client.flushall()
    return valkey


@pytest_asyncio.fixture
async def redis_url(valkey: EmbeddedValkey) -> str:
    """The session's Valkey, emptied."""
    async with Redis.from_url(valkey.url) as client:
        await client.flushall()
    return valkey.url


@pytest_asyncio.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A Valkey of the test's own, to kill, freeze and restart."""
    async with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 and its key."""
    room = tmp_path_factory.mktemp("tls")
    made, key = room / "cert.pem", room / "key.pem"
    command = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=localhost"
    subject = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made)]
    subprocess.run([*command.split(), *subject], check=True, capture_output=True)
    return made, key


@pytest_asyncio.fixture
async def site(redis_url: str) -> AsyncIterator[Site]:
    """Workers and a gateway's side of the queue in this process."""
    async with open_site(redis_url) as opened:
        yield opened
