"""Gateways that die or stop: clients go on reading at another one."""

import asyncio
import itertools

import httpx

from bench.stream import Client
from tests.cluster import CHAT, PATIENCE, Cluster, all_exact, body, heard_some
from tests.support import wait_until


def wandering(site: Cluster, tokens: int, *bases: str) -> Client:
    """A client that tries the gateways in turn."""
    turns = itertools.cycle(bases)
    client = site.client(bases[0], tokens)
    client.base = lambda: next(turns)
    return client


async def test_streams_outlive_their_gateway(site: Cluster) -> None:
    dying, staying, _ = await site.gateway(), await site.gateway(), await site.worker()
    clients = [wandering(site, 150, dying.url, staying.url) for _ in range(6)]
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    await dying.kill()
    await all_exact(clients, running)
    assert all(client.heard.connections > 1 for client in clients)


async def test_a_stream_resumed_with_its_idempotency_key_alone_is_whole(site: Cluster) -> None:
    dying, staying, _ = await site.gateway(), await site.gateway(), await site.worker()
    first = site.client(dying, 150)
    reading = asyncio.create_task(first.run())
    await heard_some(first)
    await dying.kill()
    reading.cancel()
    again = Client(site.http, lambda: staying.url, first.ask, "key-0")
    await all_exact([again], [asyncio.create_task(again.run())])
    assert again.heard.request == first.heard.request, "the running job, not a new one"


async def test_a_whole_answer_is_fetched_by_a_retry_elsewhere(site: Cluster) -> None:
    dying, staying, _ = await site.gateway(), await site.gateway(), await site.worker()
    ask = site.client(dying, 200).ask
    question = {**ask.body(), "stream": False, "stream_options": None}
    headers = {"idempotency-key": "whole"}
    first = asyncio.create_task(site.http.post(dying.url + CHAT, json=question, headers=headers))
    await wait_until(lambda: any_running(site), within=PATIENCE, what="the job runs")
    await dying.kill()
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], httpx.TransportError)
    second = await site.http.post(staying.url + CHAT, json=question, headers=headers)
    assert second.json()["choices"][0]["message"]["content"].split() == ask.answer()
    assert len(await site.jobs()) == 1
    other = await site.http.post(staying.url + CHAT, json=body(seed=99), headers=headers)
    assert other.status_code == 409


async def any_running(site: Cluster) -> bool:
    return any(job["state"] == "running" and int(job["seq"]) > 2 for job in await site.jobs())


async def test_jobs_nobody_comes_back_for_are_cancelled(site: Cluster) -> None:
    dying = await site.gateway()
    await site.gateway(orphan_grace="0")
    await site.worker()
    client = site.client(dying, 100_000)
    client.key = ""
    reading = asyncio.create_task(client.listen())
    await heard_some(client)
    await dying.kill()
    await asyncio.gather(reading, return_exceptions=True)
    await wait_until(lambda: is_cancelled(site, client), within=PATIENCE, what="the orphan is cancelled")
    await wait_until(site.idle, within=PATIENCE, what="its slot is free")


async def is_cancelled(site: Cluster, client: Client) -> bool:
    return (await site.job(client.heard.request))["state"] == "cancelled"


async def test_a_stopping_gateway_hands_its_streams_to_another(site: Cluster) -> None:
    leaving, staying, _ = await site.gateway(drain="0"), await site.gateway(), await site.worker()
    clients = [wandering(site, 150, leaving.url, staying.url) for _ in range(4)]
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    assert await leaving.stop() == 0
    await all_exact(clients, running)
