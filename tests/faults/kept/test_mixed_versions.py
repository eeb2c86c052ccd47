"""A cluster in the middle of an upgrade: parts of another revision beside those of this one, on one Redis.

`MILLSTREAM_PREVIOUS` is a checkout of the other revision; `make mixed PREVIOUS=REVISION` makes it.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
import pytest_asyncio

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.stream import Ask, StreamClient
from tests.harness.cluster import CHAT, MODEL, PATIENCE, Cluster, all_exact, body, heard_some
from tests.harness.support import wait_until

PREVIOUS = os.environ.get("MILLSTREAM_PREVIOUS", "")
pytestmark = pytest.mark.mixed
Age = Literal["previous", "present"]
AGES: tuple[Age, Age] = ("previous", "present")


class MixedCluster:
    """Starts parts of either age."""

    def __init__(self, site: Cluster) -> None:
        self.site = site

    def _from(self, age: Age) -> None:
        self.site.fleet.checkout = Path(PREVIOUS) if age == "previous" else None

    async def gateway(self, age: Age) -> FleetPart:
        """Starts a gateway of that age."""
        self._from(age)
        return await self.site.gateway()

    async def worker(self, age: Age) -> FleetPart:
        """Starts a worker of that age, and waits until it has announced itself."""
        self._from(age)
        return await self.site.worker()

    async def background(self, age: Age) -> FleetPart:
        """Starts a background process of that age."""
        self._from(age)
        return await self.site.fleet.background()


@pytest_asyncio.fixture
async def mixed(site: Cluster) -> AsyncIterator[MixedCluster]:
    assert (Path(PREVIOUS) / "millstream").is_dir(), "MILLSTREAM_PREVIOUS is no checkout"
    yield MixedCluster(site)


async def test_the_other_revision_is_what_runs(mixed: MixedCluster) -> None:
    """Without this the tests below would prove nothing."""
    part = await mixed.gateway("previous")
    mapped = Path(f"/proc/{part.pid}/environ").read_bytes().split(b"\0")
    assert b"PYTHONPATH=" + PREVIOUS.encode() in mapped


@pytest.mark.parametrize("death", AGES)
async def test_streams_move_between_workers_of_both_ages(mixed: MixedCluster, death: Age) -> None:
    """Clients of gateways of both ages read on, whichever worker dies, and whichever takes over."""
    gateways = [await mixed.gateway(age) for age in AGES]
    workers = {age: await mixed.worker(age) for age in AGES}
    clients = [mixed.site.client(gateway, 200) for gateway in gateways for _ in range(6)]
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    victim = await mixed.site.id_of(workers[death])
    assert victim in {await mixed.site.holder(client) for client in clients}
    await workers[death].kill()
    await all_exact(clients, running)


@pytest.mark.parametrize("order", [AGES, AGES[::-1]], ids=["to the new", "to the old"])
async def test_a_stream_goes_on_at_a_gateway_of_the_other_age(mixed: MixedCluster, order: tuple[Age, Age]) -> None:
    first, second = [await mixed.gateway(age) for age in order]
    for age in AGES:
        await mixed.worker(age)
    url = [first.url]
    asks = [Ask(MODEL, f"question {number}", number, 200) for number in range(6)]
    clients = [StreamClient(mixed.site.http, lambda: url[0], ask, f"key-{ask.seed}") for ask in asks]
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    url[0] = second.url
    await first.kill()
    await all_exact(clients, running)
    assert all(client.heard.connections > 1 for client in clients)


@pytest.mark.parametrize(("asked", "worked"), [AGES, AGES[::-1]], ids=["to the new", "to the old"])
async def test_whole_answers_and_batches_of_one_age_are_done_by_the_other(
    mixed: MixedCluster, asked: Age, worked: Age
) -> None:
    gateway = await mixed.gateway(asked)
    await mixed.worker(worked)
    await mixed.background(worked)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE) as http:
        wanted = body(max_tokens=50, seed=7)
        whole = (await http.post(CHAT, json=wanted)).json()
        assert whole["usage"]["completion_tokens"] == 50
        line = '{"custom_id": "a", "method": "POST", "url": "' + CHAT + '", "body": ' + json.dumps(wanted) + "}"
        file = (await http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("b.jsonl", line)})).json()
        order = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
        batch = (await http.post("/v1/batches", json=order)).json()

        async def finished() -> dict[str, object] | None:
            told = (await http.get(f"/v1/batches/{batch['id']}")).json()
            return told if told["status"] == "completed" else None

        done = await wait_until(finished, within=PATIENCE, what="the batch is done")
        assert done is not None
        told = (await http.get(f"/v1/files/{done['output_file_id']}/content")).json()
    answers = [whole, told["response"]["body"]]
    first, second = (answer["choices"][0]["message"]["content"] for answer in answers)
    assert first == second
