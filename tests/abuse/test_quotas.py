"""A tenant that stores without end fills its own quota, not the cluster; its neighbour notices nothing."""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from millstream.common.broker.embedded import EmbeddedValkey
from tests.harness.cluster import CHAT, MODEL, body, cluster

KEYS = {"flood": "sk-aaaaaaaaaaaaaaaa", "neighbour": "sk-bbbbbbbbbbbbbbbb"}
ASK: dict[str, Any] = {"model": MODEL, "input": "hi", "max_output_tokens": 2}


def of(tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[tenant]}"}


def over(answer: httpx.Response, setting: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (429, "insufficient_quota") and f"`{setting}`" in error["message"]
    assert answer.headers["x-should-retry"] == "false"


async def test_stored_answers_files_and_batches(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    settings = {
        "api_keys": ",".join(f"{tenant}:{key}" for tenant, key in KEYS.items()),
        "files_url": str(tmp_path / "files"),
        "max_stored": "4",
        "max_files": "3",
        "max_files_bytes": "1000",
        "max_batches": "2",
    }
    async with cluster(own_valkey, tmp_path, **settings) as made:
        first, second = await made.gateway(), await made.gateway()
        await made.worker()
        http = made.http

        async def turn(gateway: str, tenant: str) -> httpx.Response:
            return await http.post(f"{gateway}/v1/responses", json=ASK, headers=of(tenant))

        async def file(tenant: str, size: int) -> httpx.Response:
            form = {"file": ("a.jsonl", b"x" * size)}
            data = {"purpose": "batch"}
            return await http.post(f"{second.url}/v1/files", files=form, data=data, headers=of(tenant))

        turns = await asyncio.gather(*(turn(each.url, "flood") for each in (first, second) * 6))
        stored = [each for each in turns if each.status_code == 200]
        assert len(stored) == 4
        for each in turns:
            assert each.status_code == 200 or over(each, "max_stored") is None
        kept = await http.post(f"{first.url}{CHAT}", json=body(store=True, max_tokens=2), headers=of("flood"))
        over(kept, "max_stored")
        assert (await turn(first.url, "neighbour")).status_code == 200
        unstored = await http.post(f"{first.url}/v1/responses", json=ASK | {"store": False}, headers=of("flood"))
        assert unstored.status_code == 200
        gone = f"{second.url}/v1/responses/{stored[0].json()['id']}"
        assert (await http.delete(gone, headers=of("flood"))).status_code == 200
        assert (await turn(first.url, "flood")).status_code == 200

        assert (await file("flood", 600)).status_code == 200
        over(await file("flood", 600), "max_files_bytes")
        small = [await file("flood", 10) for _ in range(2)]
        assert [each.status_code for each in small] == [200, 200]
        over(await file("flood", 10), "max_files")
        assert (await file("neighbour", 600)).status_code == 200
        assert len([path for path in (tmp_path / "files").rglob("*") if path.is_file()]) == 4  # nothing of the refused

        batch = {"input_file_id": small[0].json()["id"], "endpoint": CHAT, "completion_window": "24h"}
        asked = [await http.post(f"{first.url}/v1/batches", json=batch, headers=of("flood")) for _ in range(3)]
        assert [each.status_code for each in asked] == [200, 200, 429]
        over(asked[2], "max_batches")
        assert await made.idle()
