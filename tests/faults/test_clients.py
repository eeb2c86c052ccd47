"""Clients that leave, ask for the unknown, come too late, read slowly, or send what kills workers."""

import asyncio
import json
from typing import Any

import pytest

from millstream.bench.chaos.fleet import FleetPart
from millstream.common.broker import keys
from tests.harness.cluster import CHAT, MODEL, PATIENCE, Cluster, all_exact, body, heard_some
from tests.harness.support import wait_until


def scripted(**script: Any) -> dict[str, Any]:
    """A request whose answer the simulated engine plays."""
    return body(messages=[{"role": "user", "content": f"script: {json.dumps(script)}"}])


async def states(site: Cluster) -> list[str]:
    return sorted(job["state"] for job in await site.jobs())


async def leave(site: Cluster, gateway: FleetPart, question: dict[str, Any], state: str) -> None:
    """Ask, and hang up when the job is in that state."""
    asking = asyncio.create_task(site.http.post(gateway.url + CHAT, json=question))
    await wait_until(lambda: is_in(site, state), within=PATIENCE, what=f"the job is {state}")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def is_in(site: Cluster, state: str) -> bool:
    return state in await states(site)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_slot(site: Cluster, stream: bool) -> None:
    gateway = await site.gateway()
    await site.worker(slots="1")
    await leave(site, gateway, body(stream=stream, max_tokens=100_000), "running")
    await wait_until(site.idle, within=PATIENCE, what="the slot is free")
    assert await states(site) == ["cancelled"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_before_its_first_token_frees_its_slot(site: Cluster, stream: bool) -> None:
    gateway = await site.gateway()
    await site.worker(slots="1", simulated_first_token="3600")
    await leave(site, gateway, body(stream=stream), "running")
    await wait_until(site.idle, within=PATIENCE, what="the slot is free")
    assert await states(site) == ["cancelled"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_the_queue_is_never_started(site: Cluster, stream: bool) -> None:
    gateway, worker = await site.gateway(), await site.worker(slots="1")
    first = site.client(gateway, 100_000)
    first.key = ""
    busy = asyncio.create_task(first.listen())
    await heard_some(first)
    await leave(site, gateway, body(stream=stream), "queued")
    await wait_until(lambda: is_in(site, "cancelled"), within=PATIENCE, what="the waiting job is cancelled")
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)
    await wait_until(site.idle, within=PATIENCE, what="the slot is free")
    assert len(worker.told("job_claimed")) == 1
    assert await site.broker.redis.exists(keys.waiting(MODEL)) == 0


async def test_a_passed_deadline_is_504_and_the_job_never_starts(site: Cluster) -> None:
    gateway, worker = await site.gateway(), await site.worker(slots="1")
    first = site.client(gateway, 100_000)
    busy = asyncio.create_task(first.run())
    await heard_some(first)
    late = await site.http.post(gateway.url + CHAT, json=body(), headers={"x-request-timeout": "0.5"})
    assert late.status_code == 504 and late.json()["error"]["code"] == "deadline_exceeded"
    assert len(worker.told("job_claimed")) == 1
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)


async def test_a_prompt_that_kills_workers_fails_after_three(site: Cluster) -> None:
    gateway = await site.gateway()
    for _ in range(2):
        await site.fleet.worker(supervised=True)
    await wait_until(lambda: served(site), within=PATIENCE)
    answer = await site.http.post(gateway.url + CHAT, json=scripted(text="never", crash=True, after=2))
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "worker_lost"
    [(_, grave)] = await site.broker.redis.xrange(keys.dead(MODEL))
    assert "died 3 times" in grave["reason"]
    [job] = await site.jobs()
    assert (job["state"], job["attempt"]) == ("failed", "3")


async def served(site: Cluster) -> bool:
    return bool(await site.broker.redis.zcard(keys.load(MODEL)))


async def test_an_unknown_model_is_404_and_a_known_one_waits_for_its_worker(site: Cluster) -> None:
    gateway = await site.gateway()
    unknown = await site.http.post(gateway.url + CHAT, json=body())
    assert unknown.status_code == 404 and unknown.json()["error"]["code"] == "model_not_found"
    only = await site.worker()
    assert await only.stop() == 0
    client = site.client(gateway, 30)
    asking = asyncio.create_task(client.run())
    await wait_until(lambda: is_in(site, "queued"), within=PATIENCE, what="the job waits")
    await site.worker()
    await all_exact([client], [asking])


async def test_a_slow_reader_gets_everything_and_slows_nobody(site: Cluster) -> None:
    gateway = await site.gateway()
    await site.worker(simulated_rate="0", slots="2")
    slow, quick = site.client(gateway, 20_000), site.client(gateway, 2_000)
    go_on = asyncio.Event()
    reading = asyncio.create_task(read_after(go_on, site, gateway, slow.ask.body()))
    await wait_until(lambda: is_in(site, "finished"), within=PATIENCE, what="the job does not wait for its reader")
    await all_exact([quick], [asyncio.create_task(quick.run())])
    go_on.set()
    text = await asyncio.wait_for(reading, PATIENCE)
    assert text.split() == slow.ask.answer()


async def read_after(go_on: asyncio.Event, site: Cluster, gateway: FleetPart, question: dict[str, Any]) -> str:
    """Ask at once, but read nothing before `go_on`."""
    pieces: list[str] = []
    async with site.http.stream("POST", gateway.url + CHAT, json=question) as response:
        await go_on.wait()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line[6:])["choices"]
                pieces += [choice["delta"].get("content") or "" for choice in choices]
    return "".join(pieces)


async def test_every_process_is_replaced_under_load_and_nothing_is_lost(site: Cluster) -> None:
    gateways = [await site.gateway(drain="0"), await site.gateway(drain="0")]
    old = [await site.worker(drain="0.2"), await site.worker(drain="0.2")]
    serving = list(gateways)
    clients = [site.client(gateways[n % 2], 400) for n in range(8)]
    for n, client in enumerate(clients):
        client.base = lambda n=n: serving[n % len(serving)].url
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    for worker in old:
        await site.worker(drain="0.2")
        assert await worker.stop() == 0
    for gateway in gateways:
        serving.append(await site.gateway())
        serving.remove(gateway)
        assert await gateway.stop() == 0
    await all_exact(clients, running)
