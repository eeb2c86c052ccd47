"""Real clusters of real processes, started once for all clients: one whose engine plays scripts, one with a model."""

import asyncio
import base64
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.bench.chaos.fleet import Fleet
from millstream.common.broker.embedded import EmbeddedValkey
from tests.harness.support import wait_until

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PATIENCE = 90.0  # seconds: a model loads on a busy machine


@dataclass(frozen=True)
class ServedSite:
    """A cluster's address (without `/v1`), its chat model, and the model's embedding neighbour."""

    url: str
    model: str
    embeddings: str = ""

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


@asynccontextmanager
async def started(directory: Path, gateway: dict[str, str], worker: dict[str, str]) -> AsyncIterator[list[str]]:
    """Valkey, a gateway and a worker; the gateway's URL and the models served."""
    async with EmbeddedValkey(directory / "valkey") as valkey, Fleet(directory / "logs", valkey.url) as fleet:
        url = (await fleet.gateway(**gateway)).url
        part = await fleet.worker(**worker)

        async def models() -> list[str]:
            assert part.alive, part.last_words()
            listed = (await http.get("/v1/models")).json()
            return [model["id"] for model in listed["data"] if model["workers"]]

        async with httpx.AsyncClient(base_url=url) as http:
            wanted = 2 if "embedding_model" in worker else 1
            served = await wait_until(models_when(models, wanted), within=PATIENCE, what="the worker serves its models")
        yield [url, *served]


def models_when(models: Any, wanted: int) -> Any:
    async def enough() -> list[str]:
        found = await models()
        return found if len(found) >= wanted else []

    return enough


@contextmanager
def running(directory: Path, gateway: dict[str, str], worker: dict[str, str]) -> Iterator[list[str]]:
    """Runs a cluster in the same way for fixtures that outlive one test's event loop."""
    with asyncio.Runner() as runner:
        cluster = started(directory, gateway, worker)
        found = runner.run(cluster.__aenter__())
        try:
            yield found
        finally:
            runner.run(cluster.__aexit__(None, None, None))


@pytest.fixture(scope="package")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """A cluster that says what the request's script says. `gpt-4o` is another name of its model."""
    gateway = {"aliases": '["gpt-4o=simulated"]', "max_body_bytes": str(2**20)}
    with running(tmp_path_factory.mktemp("scripted"), gateway, {"model": "simulated"}) as (url, model):
        yield ServedSite(url, model)


@pytest.fixture(scope="package")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """A cluster with the sample model and the sample embedding model."""
    worker = {"engine": "transformers", "embedding_model": "all-minilm-l6-v2", "threads": "1"}
    with running(tmp_path_factory.mktemp("real"), {}, worker) as (url, *models):
        chat = next(name for name in models if "smollm2" in name)
        yield ServedSite(url, chat, next(name for name in models if name != chat))


@pytest.fixture(scope="package")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """A cluster whose worker is started again when it has died."""
    worker = {"model": "simulated", "supervise": "true"}
    with running(tmp_path_factory.mktemp("mortal"), {}, worker) as (url, model):
        yield ServedSite(url, model)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a file of two lines and an image."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "b.txt").write_text("one\ntwo\n")
    (folder / "p.png").write_bytes(base64.b64decode(PIXEL))
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def script(**says: Any) -> str:
    """A user message that makes the simulated engine say this."""
    return f"script: {json.dumps(says)}"


def scripts(*turns: dict[str, Any]) -> str:
    """Puts a script in the same way for a conversation: one script for each turn of the assistant."""
    return f"script: {json.dumps(turns)}"


def user(content: str) -> list[Any]:
    """A conversation of one message."""
    return [{"role": "user", "content": content}]
