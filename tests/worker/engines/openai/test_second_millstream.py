"""A Millstream in front of another one that serves a real encoder: the same vectors, by every way in."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.directory import model_info
from millstream.common.job import ModelName
from tests.harness.cluster import MODEL, PATIENCE, Cluster, cluster
from tests.harness.support import wait_until

ENCODER = ModelName("all-minilm-l6-v2")
TEXTS = ["A cat sits on the mat.", "Quarterly earnings grew.", "The kitten is on a rug."]


async def told(site: Cluster, url: str, body: dict[str, Any]) -> Any:
    response = await site.http.post(url, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def test_vectors_of_a_second_millstream(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with cluster(own_valkey, tmp_path, lease="5.0") as site:
        gateway, _ = await site.gateway(), await site.fleet.background()
        await site.fleet.worker(engine="transformers", model=ENCODER)
        await wait_until(lambda: _live(site), within=PATIENCE, what="the encoder is served")
        served = {"engine": "openai", "upstream": gateway.url, "model": ENCODER, "served_model_name": MODEL}
        first = await site.worker(**served)
        info = await site.info(first)
        assert info is not None and info.details["dimensions"] == "384"
        await _same_vectors(site, gateway.url)
        await _refused(site, gateway.url)
        body = {"model": MODEL, "input": TEXTS * 400}
        asked = asyncio.create_task(site.http.post(f"{gateway.url}/v1/embeddings", json=body))
        await wait_until(lambda: _busy(site), within=PATIENCE, what="a worker computes")
        await first.kill()
        await site.worker(**served)
        answer = (await asked).json()
        assert [entry["index"] for entry in answer["data"]] == list(range(1200))
        await _batch(site, gateway.url)


async def _live(site: Cluster) -> bool:
    return (await model_info(site.broker, ENCODER)).live == 1


async def _busy(site: Cluster) -> bool:
    return any((await site.loads()).values())


async def _same_vectors(site: Cluster, url: str) -> None:
    bodies = [{"model": name, "input": TEXTS} for name in (ENCODER, MODEL)]
    near, far = [await told(site, f"{url}/v1/embeddings", body) for body in bodies]
    for one, other in zip(near["data"], far["data"], strict=True):
        assert other["embedding"] == pytest.approx(one["embedding"], abs=1e-6)
    assert far["usage"] == near["usage"]
    native = await told(site, f"{url}/api/embed", {"model": MODEL, "input": TEXTS})
    assert native["embeddings"] == [entry["embedding"] for entry in far["data"]]
    query: dict[str, Any] = {"query": "cat", "documents": TEXTS}
    ranked = [await told(site, f"{url}/v1/rerank", {"model": name, **query}) for name in (ENCODER, MODEL)]
    assert [each["index"] for each in ranked[0]["results"]] == [each["index"] for each in ranked[1]["results"]]


async def _refused(site: Cluster, url: str) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"input": "a", "dimensions": 7}, "dimensions"),
        ({"input": "word " * 400}, "input[0]"),
    ]
    for body, param in bad:
        response = await site.http.post(f"{url}/v1/embeddings", json={"model": MODEL, **body})
        assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text
    long = await told(site, f"{url}/v1/embeddings", {"model": MODEL, "input": "word " * 400, "truncate": True})
    assert len(long["data"][0]["embedding"]) == 384


async def _batch(site: Cluster, url: str) -> None:
    lines = [
        {"custom_id": str(at), "method": "POST", "url": "/v1/embeddings", "body": {"model": MODEL, "input": text}}
        for at, text in enumerate(TEXTS)
    ]
    files = {"file": ("in.jsonl", "\n".join(map(json.dumps, lines)).encode())}
    uploaded = await site.http.post(f"{url}/v1/files", files=files, data={"purpose": "batch"})
    made: dict[str, Any] = {"endpoint": "/v1/embeddings", "completion_window": "24h"}
    batch = await told(site, f"{url}/v1/batches", {"input_file_id": uploaded.json()["id"], **made})

    async def over() -> httpx.Response | None:
        now = await site.http.get(f"{url}/v1/batches/{batch['id']}")
        return now if now.json()["status"] == "completed" else None

    done = await wait_until(over, within=PATIENCE, what="the batch is completed")
    assert done is not None
    output = await site.http.get(f"{url}/v1/files/{done.json()['output_file_id']}/content")
    assert sorted(json.loads(line)["custom_id"] for line in output.text.splitlines()) == ["0", "1", "2"]
    assert all(
        len(json.loads(line)["response"]["body"]["data"][0]["embedding"]) == 384 for line in output.text.splitlines()
    )
