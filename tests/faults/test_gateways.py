"""Gateways that die or stop: clients go on reading at another one."""

import asyncio
import itertools

import httpx
import pytest

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.stream import StreamClient, judge
from millstream.gateway.queue.watchdog import GATEWAY_TTL_MS
from tests.harness.cluster import CHAT, PATIENCE, Cluster, all_exact, body, heard_some
from tests.harness.support import wait_until


def wandering(site: Cluster, tokens: int, *bases: str) -> StreamClient:
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
    again = StreamClient(site.http, lambda: staying.url, first.ask, "key-0")
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
    return await site.running() > 0


async def test_a_frozen_gateway_goes_on_with_its_streams(site: Cluster) -> None:
    """It is silent for longer than a dead one would be waited for, but its clients are still connected to it."""
    frozen = await site.gateway()
    await site.gateway(orphan_grace="0")
    await site.worker()
    clients = [site.client(frozen, 2500) for _ in range(2)]
    for client in clients:
        client.key = ""  # without one, nobody could come back for the job
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    frozen.freeze()
    await asyncio.sleep(GATEWAY_TTL_MS / 1000 + 3)
    frozen.thaw()
    await all_exact(clients, running)
    assert all(client.heard.connections == 1 for client in clients)


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


async def is_cancelled(site: Cluster, client: StreamClient) -> bool:
    return (await site.job(client.heard.request))["state"] == "cancelled"


async def test_a_stopping_gateway_hands_its_streams_to_another(site: Cluster) -> None:
    leaving, staying, _ = await site.gateway(drain="0"), await site.gateway(), await site.worker()
    clients = [wandering(site, 150, leaving.url, staying.url) for _ in range(4)]
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    assert await leaving.stop() == 0
    await all_exact(clients, running)


async def test_a_gateway_that_was_frozen_leaves_the_streams_that_moved_on(site: Cluster) -> None:
    """The clients of the frozen gateway came back elsewhere; when it wakes it finds them gone, but their jobs are not
    for it to cancel."""
    frozen, staying, _ = await site.gateway(), await site.gateway(), await site.worker()
    client = site.client(frozen, 600)
    client.key = ""
    reading = asyncio.create_task(client.listen())
    await heard_some(client)
    frozen.freeze()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    client.base = lambda: staying.url
    going_on = asyncio.create_task(client.run())
    await heard_some(client, len(client.heard.arrivals) + 50)
    frozen.thaw()
    await wait_until(lambda: frozen.told("client_left"), within=PATIENCE, what="it notices that its client left")
    await all_exact([client], [going_on])


def asked_twice(site: Cluster, tokens: int, one: FleetPart, other: FleetPart) -> list[StreamClient]:
    """One request with one key at two gateways, by clients that do not mean to come back."""
    first = site.client(one, tokens)
    both = [first, StreamClient(site.http, lambda: other.url, first.ask, first.key)]
    for client in both:
        client.headers = {"x-millstream-resumable": "false"}
    return both


@pytest.mark.parametrize("gone", [0, 1])
async def test_a_reader_that_leaves_takes_nothing_from_another(site: Cluster, gone: int) -> None:
    one, other, _ = await site.gateway(), await site.gateway(), await site.worker()
    clients = asked_twice(site, 400, one, other)
    readers: list[asyncio.Task[None]] = []
    for client in clients:
        readers.append(asyncio.create_task(client.listen()))
        await heard_some(client)
    readers.pop(gone).cancel()
    await asyncio.wait_for(readers[0], PATIENCE)
    assert judge(clients[0].ask, clients[1 - gone].heard).good


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_a_job_is_cancelled_when_the_last_of_its_readers_leaves(site: Cluster, order: tuple[int, int]) -> None:
    one, other, _ = await site.gateway(), await site.gateway(), await site.worker()
    clients = asked_twice(site, 100_000, one, other)
    readers: list[asyncio.Task[None]] = []
    for client in clients:
        readers.append(asyncio.create_task(client.listen()))
        await heard_some(client)
    for who in order:
        assert not await is_cancelled(site, clients[0])
        readers[who].cancel()
        await wait_until(lambda who=who: (one, other)[who].told("client_left"), within=PATIENCE)
    await wait_until(lambda: is_cancelled(site, clients[0]), within=PATIENCE, what="the job is cancelled")
    await wait_until(site.idle, within=PATIENCE, what="its slot is free")


async def test_what_is_open_at_the_end_of_the_window_can_be_asked_for_elsewhere(site: Cluster) -> None:
    """A stream is broken off after `retry:`, a whole answer is an error that says to try again; both go on."""
    leaving, staying, _ = await site.gateway(drain="1"), await site.gateway(), await site.worker()
    whole = site.client(leaving, 1000)
    question, key = {**whole.ask.body(), "stream": False, "stream_options": None}, {"idempotency-key": whole.key}
    reading = asyncio.create_task(broken_off(site, leaving, site.client(leaving, 1000).ask.body()))
    asking = asyncio.create_task(site.http.post(leaving.url + CHAT, json=question, headers=key))
    await wait_until(lambda: all_running(site, 2), within=PATIENCE, what="both jobs run")
    assert await leaving.stop() == 0
    assert (await reading).endswith("\nretry: 1000\n")
    refused = await asking
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "service_unavailable"
    again = await site.http.post(staying.url + CHAT, json=question, headers=key)
    assert again.json()["choices"][0]["message"]["content"].split() == whole.ask.answer()
    assert len(await site.jobs()) == 2


async def all_running(site: Cluster, count: int) -> bool:
    return await site.running() == count


async def broken_off(site: Cluster, gateway: FleetPart, question: dict[str, object]) -> str:
    """Returns what came of a stream that has no end."""
    text = ""
    with pytest.raises(httpx.RemoteProtocolError):
        async with site.http.stream("POST", gateway.url + CHAT, json=question) as response:
            async for piece in response.aiter_text():
                text += piece
    return text
