"""A key that is revoked, or whose limits change, has no batch that goes on as before."""

import asyncio
import json
from pathlib import Path

import httpx
import msgspec

from millstream.common.broker.accounts.keyring import KeyLimits, digest, new_key, revoke_key, store_key
from millstream.common.broker.connection.broker import Broker
from tests.gateway.background.cluster import gateway
from tests.gateway.background.processes import processes
from tests.harness.support import wait_until

CHAT = "/v1/chat/completions"
OVER = ("completed", "failed", "expired", "cancelled")


async def test_batches_follow_their_keys(redis_url: str, tmp_path: Path) -> None:
    asked = [
        {"model": "simulated", "max_tokens": 20, "messages": [{"role": "user", "content": f"{n}"}]} for n in range(400)
    ]
    lines = [{"custom_id": f"{n}", "method": "POST", "url": CHAT, "body": each} for n, each in enumerate(asked)]
    text = "".join(json.dumps(each) + "\n" for each in lines)
    made = [new_key(), new_key()]
    with processes(redis_url, tmp_path) as running:
        running.start("worker", "worker", "--engine", "simulated", "--simulated-rate", "40", "--slots", "4")
        running.start("background", "background")
        async with (
            Broker(redis_url) as broker,
            gateway(redis_url, tmp_path / "files") as url,
            httpx.AsyncClient(base_url=url, timeout=60) as http,
        ):
            batches: list[str] = []

            async def get(path: str, at: int) -> httpx.Response:
                return await http.get(path, headers={"Authorization": f"Bearer {made[at][0]}"})

            async def batch(at: int) -> dict[str, object]:
                """Both keys are of one tenant, so that the other one can look at what the revoked one left."""
                return (await get(f"/v1/batches/{batches[at]}", 1)).json()

            for key, record in made:
                await store_key(broker, digest(key), msgspec.structs.replace(record, tenant="team"))
            await wait_until(lambda: _served(http, made[0][0]), within=60, what="the worker is there")
            for key, _ in made:
                headers = {"Authorization": f"Bearer {key}"}
                form = {"file": ("in.jsonl", text.encode())}
                file = await http.post("/v1/files", files=form, data={"purpose": "batch"}, headers=headers)
                body = {"input_file_id": file.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
                batches.append((await http.post("/v1/batches", json=body, headers=headers)).json()["id"])

            async def begun(at: int) -> bool:
                return (await batch(at))["request_counts"]["completed"] > 0  # type: ignore[index]

            for at in (0, 1):
                await wait_until(lambda at=at: begun(at), within=60, what="the batch works")
            await revoke_key(broker, made[0][1].id)
            limited = msgspec.structs.replace(made[1][1], tenant="team", limits=KeyLimits(tokens_per_day=1))
            await store_key(broker, digest(made[1][0]), limited)
            stopped = await wait_until(lambda: _over(lambda: batch(0)), within=60, what="the revoked key's batch stops")
            assert stopped is not None and stopped["status"] == "cancelled"
            assert stopped["errors"]["data"][0]["code"] == "key_revoked"  # type: ignore[index]
            assert 0 < stopped["request_counts"]["completed"] < 400  # type: ignore[index]
            assert (await get("/v1/models", 0)).status_code == 401

            await wait_until(lambda: _still(lambda: batch(1)), within=60, what="the other batch waits for its budget")
            assert (await batch(1))["status"] == "in_progress"


async def _served(http: httpx.AsyncClient, key: str) -> bool:
    return bool((await http.get("/v1/models", headers={"Authorization": f"Bearer {key}"})).json().get("data"))


async def _over(look) -> dict[str, object] | None:  # type: ignore[no-untyped-def]
    now = await look()
    return now if now["status"] in OVER else None


async def _still(look) -> bool:  # type: ignore[no-untyped-def]
    """Whether nothing is done any more: 2 s are time for a hundred lines."""
    before = await look()
    await asyncio.sleep(2)
    return (await look())["request_counts"] == before["request_counts"]
