"""A key that is revoked, or whose limits change, has no batch that goes on as before."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest_asyncio

from millstream.common.broker.accounts.keyring import ApiKey, KeyLimits, digest, new_key, revoke_key, store_key
from millstream.common.broker.connection.broker import Broker
from tests.gateway.background.cluster import gateway
from tests.gateway.background.processes import processes
from tests.harness.support import wait_until

CHAT = "/v1/chat/completions"
OVER = ("completed", "failed", "expired", "cancelled")
ASK = {"model": "simulated", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
LINES = [{"custom_id": f"{n}", "method": "POST", "url": CHAT, "body": ASK} for n in range(400)]


@dataclass
class Team:
    """Two keys of one tenant: the other one can look at what the revoked one left."""

    broker: Broker
    http: httpx.AsyncClient
    keys: list[tuple[str, ApiKey]]

    async def get(self, path: str, at: int) -> httpx.Response:
        return await self.http.get(path, headers={"Authorization": f"Bearer {self.keys[at][0]}"})

    async def begin(self, at: int) -> str:
        """A batch of that key."""
        headers = {"Authorization": f"Bearer {self.keys[at][0]}"}
        form = {"file": ("in.jsonl", "".join(json.dumps(line) + "\n" for line in LINES).encode())}
        file = await self.http.post("/v1/files", files=form, data={"purpose": "batch"}, headers=headers)
        body = {"input_file_id": file.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
        made = (await self.http.post("/v1/batches", json=body, headers=headers)).json()["id"]
        await wait_until(lambda: self.completed(made), within=60, what="the batch works")
        return made

    async def batch(self, id: str) -> dict[str, Any]:
        return (await self.get(f"/v1/batches/{id}", 1)).json()

    async def completed(self, id: str) -> int:
        return (await self.batch(id))["request_counts"]["completed"]

    async def over(self, id: str) -> dict[str, Any] | None:
        now = await self.batch(id)
        return now if now["status"] in OVER else None

    async def rests(self, id: str) -> bool:
        """Tells whether nothing is done any more: two seconds are time for dozens of lines."""
        before = await self.completed(id)
        await asyncio.sleep(2)
        return await self.completed(id) == before

    async def served(self) -> bool:
        return bool((await self.get("/v1/models", 1)).json().get("data"))


@pytest_asyncio.fixture
async def team(redis_url: str, tmp_path: Path) -> AsyncIterator[Team]:
    with processes(redis_url, tmp_path) as running:
        running.start("worker", "worker", "--engine", "simulated", "--simulated-rate", "40", "--slots", "4")
        running.start("background", "background")
        async with Broker(redis_url) as broker:
            keys = [new_key(), new_key()]
            for key, record in keys:  # before the gateway starts: without any key it serves everybody as one tenant
                await store_key(broker, digest(key), msgspec.structs.replace(record, tenant="team"))
            async with (
                gateway(redis_url, tmp_path / "files") as url,
                httpx.AsyncClient(base_url=url, timeout=60) as http,
            ):
                made = Team(broker, http, keys)
                await wait_until(made.served, within=60, what="the worker is there")
                yield made


async def test_a_revoked_key_stops_its_batch(team: Team) -> None:
    batch = await team.begin(0)
    await revoke_key(team.broker, team.keys[0][1].id)
    stopped = await wait_until(lambda: team.over(batch), within=60, what="the batch stops")
    assert stopped is not None and stopped["status"] == "cancelled"
    assert stopped["errors"]["data"][0]["code"] == "key_revoked"
    assert 0 < stopped["request_counts"]["completed"] < len(LINES) and stopped["output_file_id"]
    assert (await team.get("/v1/models", 0)).status_code == 401


async def test_new_limits_hold_for_a_batch_that_runs(team: Team) -> None:
    batch = await team.begin(1)
    key, record = team.keys[1]
    limits = KeyLimits(tokens_per_day=1)
    await store_key(team.broker, digest(key), msgspec.structs.replace(record, tenant="team", limits=limits))
    await wait_until(lambda: team.rests(batch), within=60, what="the batch waits for its budget")
    assert (await team.batch(batch))["status"] == "in_progress"
    await store_key(team.broker, digest(key), msgspec.structs.replace(record, tenant="team"))
    before = await team.completed(batch)

    async def goes_on() -> bool:
        return await team.completed(batch) > before

    await wait_until(goes_on, within=60, what="it goes on")
