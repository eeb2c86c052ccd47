"""Models that are loaded when somebody asks for them, and unloaded when nobody does or an operator says so."""

import asyncio
from typing import Any

import httpx

from millstream.common.broker.models.directory import ModelInfo, model_info
from millstream.common.job import ModelName
from tests.harness.cluster import CHAT, PATIENCE, Cluster
from tests.harness.support import wait_until

EXTRA = ModelName("extra")


def asking(model: str, **changes: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, **changes}


async def info(site: Cluster) -> ModelInfo:
    return await model_info(site.broker, EXTRA)


async def is_served(site: Cluster) -> bool:
    return (await info(site)).live == 1


async def is_listed(site: Cluster, base: str) -> bool:
    listed = (await site.http.get(f"{base}/v1/models")).json()["data"]
    return EXTRA in [model["id"] for model in listed]


async def begin(site: Cluster, **settings: str) -> str:
    """A gateway and a worker that could serve one more model; where the gateway listens."""
    gateway = await site.gateway()
    await site.worker(on_demand='["extra=anything"]', **settings)
    await wait_until(lambda: is_listed(site, gateway.url), within=PATIENCE)
    assert (await info(site)).live == 0
    return gateway.url


async def test_a_request_for_a_model_that_is_not_loaded_waits_until_it_is(site: Cluster) -> None:
    base = await begin(site)
    answer = (await site.http.post(f"{base}{CHAT}", json=asking(EXTRA))).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert (await info(site)).live == 1
    assert (await site.http.post(f"{base}{CHAT}", json=asking("simulated"))).status_code == 200


async def test_a_model_nobody_uses_goes_and_comes_back_for_the_next_request(site: Cluster) -> None:
    base = await begin(site, idle_unload="0.5")
    for _ in range(2):
        assert (await site.http.post(f"{base}{CHAT}", json=asking(EXTRA))).status_code == 200
        await wait_until(lambda: is_gone(site), within=PATIENCE)
    assert (await model_info(site.broker, ModelName("simulated"))).live == 1  # the worker's own model stays


async def is_gone(site: Cluster) -> bool:
    return (await info(site)).live == 0


async def test_an_operator_loads_and_unloads_and_no_answer_is_cut(site: Cluster) -> None:
    base = await begin(site)
    assert (await site.http.post(f"{base}/v1/models/extra/load")).json()["requested"] == "load"
    await wait_until(lambda: is_served(site), within=PATIENCE)

    running = asyncio.create_task(long_answer(site.http, base))
    await wait_until(lambda: is_busy(site), within=PATIENCE)
    assert (await site.http.post(f"{base}/v1/models/extra/unload")).status_code == 202
    answer = (await running).json()
    assert answer["usage"]["completion_tokens"] == 150
    await wait_until(lambda: is_gone(site), within=PATIENCE)


async def long_answer(http: httpx.AsyncClient, base: str) -> httpx.Response:
    return await http.post(f"{base}{CHAT}", json=asking(EXTRA, max_tokens=150))


async def is_busy(site: Cluster) -> bool:
    return any(worker.load for worker in (await info(site)).workers)


async def test_only_admins_may_and_only_what_exists(site: Cluster) -> None:
    gateway = await site.gateway(api_keys='["team-a:sk-a", "admin:sk-root"]')
    await site.worker(on_demand='["extra=anything"]')
    for key, model, status in (("sk-a", "extra", 403), ("sk-root", "nothing", 404), ("sk-root", "simulated", 202)):
        bearer = {"Authorization": f"Bearer {key}"}
        answered = await site.http.post(f"{gateway.url}/v1/models/{model}/load", headers=bearer)
        assert answered.status_code == status, answered.text
