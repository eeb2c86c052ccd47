"""A tenant that stores without end fills its own quota, not the cluster; its neighbour notices nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio

from millstream.common.broker.embedded import EmbeddedValkey
from tests.harness.cluster import CHAT, MODEL, Cluster, body, cluster
from tests.harness.support import wait_until

KEYS = {"flood": "sk-aaaaaaaaaaaaaaaa", "neighbour": "sk-bbbbbbbbbbbbbbbb"}
ASK: dict[str, Any] = {"model": MODEL, "input": "hi", "max_output_tokens": 2}


def of(tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[tenant]}"}


def over(answer: httpx.Response, setting: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (429, "insufficient_quota") and f"`{setting}`" in error["message"]
    assert answer.headers["x-should-retry"] == "false"


@pytest_asyncio.fixture
async def site(own_valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two gateways and a worker; its `http` asks the first one."""
    settings = {
        "api_keys": ",".join(f"{tenant}:{key}" for tenant, key in KEYS.items()),
        "max_stored": "4",
        "max_files": "3",
        "max_files_bytes": "1000",
        "max_batches": "2",
    }
    async with cluster(own_valkey, tmp_path, **settings) as made:
        made.http.base_url = httpx.URL((await made.gateway()).url)
        await made.gateway()
        await made.worker()
        yield made


def urls(site: Cluster) -> list[str]:
    return [part.url for part in site.fleet.parts if part.url]


async def turn(site: Cluster, tenant: str, gateway: str = "", **more: Any) -> httpx.Response:
    return await site.http.post(f"{gateway}/v1/responses", json=ASK | more, headers=of(tenant))


async def file(site: Cluster, tenant: str, size: int) -> httpx.Response:
    form = {"file": ("a.jsonl", b"x" * size)}
    return await site.http.post("/v1/files", files=form, data={"purpose": "batch"}, headers=of(tenant))


async def test_stored_answers(site: Cluster) -> None:
    turns = await asyncio.gather(*(turn(site, "flood", url) for url in urls(site) * 6))
    stored = [each for each in turns if each.status_code == 200]
    assert len(stored) == 4
    for each in turns:
        assert each.status_code == 200 or over(each, "max_stored") is None
    kept = await site.http.post(CHAT, json=body(store=True, max_tokens=2), headers=of("flood"))
    over(kept, "max_stored")
    assert (await turn(site, "neighbour")).status_code == 200
    assert (await turn(site, "flood", store=False)).status_code == 200
    gone = f"{urls(site)[1]}/v1/responses/{stored[0].json()['id']}"
    assert (await site.http.delete(gone, headers=of("flood"))).status_code == 200
    assert (await turn(site, "flood")).status_code == 200
    await wait_until(site.idle, what="nothing runs for what was refused")


async def test_conversations_and_their_items(site: Cluster) -> None:
    async def post(path: str, gateway: str = "", **body: Any) -> httpx.Response:
        return await site.http.post(f"{gateway}/v1/conversations{path}", json=body, headers=of("flood"))

    item = {"type": "message", "role": "user", "content": "x"}
    made = (await post("", items=[item])).json()["id"]
    over(await post(f"/{made}/items", items=[item] * 3), "max_stored")
    kept = await site.http.get(f"{urls(site)[1]}/v1/conversations/{made}/items", headers=of("flood"))
    assert len(kept.json()["data"]) == 3
    over(await post("", urls(site)[1]), "max_stored")
    answer = await turn(site, "flood", conversation=made, store=False)
    assert answer.status_code == 200, "what was computed is kept"
    assert len((await site.http.get(kept.url, headers=of("flood"))).json()["data"]) == 5
    assert (await site.http.delete(f"/v1/conversations/{made}", headers=of("flood"))).json()["deleted"]
    assert (await post("")).status_code == 200


async def test_files_and_batches(site: Cluster, tmp_path: Path) -> None:
    assert (await file(site, "flood", 600)).status_code == 200
    over(await file(site, "flood", 600), "max_files_bytes")
    small = [await file(site, "flood", 10) for _ in range(2)]
    assert [each.status_code for each in small] == [200, 200]
    over(await file(site, "flood", 10), "max_files")
    assert (await file(site, "neighbour", 600)).status_code == 200
    kept = {path for folder in tmp_path.rglob("files") for path in folder.rglob("*") if path.is_file()}
    assert len(kept) == 4  # nothing of the refused

    batch = {"input_file_id": small[0].json()["id"], "endpoint": CHAT, "completion_window": "24h"}
    asked = [await site.http.post("/v1/batches", json=batch, headers=of("flood")) for _ in range(3)]
    assert [each.status_code for each in asked] == [200, 200, 429]
    over(asked[2], "max_batches")
