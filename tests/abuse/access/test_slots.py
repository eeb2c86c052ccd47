"""One tenant holds every slot with streams that do not end, and its neighbour is served all the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest_asyncio

from millstream.bench.chaos.stream import StreamClient, judge
from millstream.common.broker.embedded import EmbeddedValkey
from tests.abuse.tenants import BAD, GOOD
from tests.harness.cluster import Cluster, all_exact, cluster, heard_some
from tests.harness.support import wait_until

ENDLESS = 100_000
SLOTS, STREAMS = 4, 6


@pytest_asyncio.fixture
async def crowded(own_valkey: EmbeddedValkey, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Two workers, and a patience that a test can wait for."""
    settings = {"lease": "15.0", "fair_after": "0.5", "api_keys": "attacker:bad,neighbour:good"}
    async with cluster(own_valkey, tmp_path, **settings) as running:
        yield running


@asynccontextmanager
async def asking(clients: list[StreamClient], headers: dict[str, str]) -> AsyncIterator[None]:
    """Each client reads its stream, until the block is left."""
    for client in clients:
        client.headers = headers
    streams = [asyncio.create_task(client.run()) for client in clients]
    try:
        yield
    finally:
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)


async def went_on(site: Cluster, client: StreamClient) -> bool:
    """Tells whether it has lost its slot and has one again."""
    job = await site.job(client.heard.request)
    return bool(job.get("gave_way")) and job["state"] == "running" and int(job["grant"]) > 1


async def test_endless_streams_give_slots_to_a_neighbour_and_go_on_exactly(crowded: Cluster) -> None:
    gateway = await crowded.gateway()
    for _ in range(2):
        await crowded.worker(slots=str(SLOTS // 2), simulated_rate="50")
    hostile = [crowded.client(gateway, ENDLESS) for _ in range(STREAMS)]
    good = [crowded.client(gateway, 5) for _ in range(4)]
    async with asking(hostile, BAD):
        await wait_until(lambda: crowded_out(crowded), within=60, what="every slot is taken")
        for some in (good[:1], good[1:]):
            for client in some:
                client.headers = GOOD
            await all_exact(some, [asyncio.create_task(client.run()) for client in some])
        assert not any(client.heard.complete or client.heard.errors for client in hostile)
        back = await wait_until(lambda: first_that_went_on(crowded, hostile), within=60, what="a stream goes on")
        await heard_some(back, len(back.heard.arrivals) + 20)
    assert all(judge(client.ask, client.heard, complete=False).good for client in hostile)
    assert {job["attempt"] for job in await crowded.jobs()} == {"0"}


async def crowded_out(site: Cluster) -> bool:
    return await site.running() == SLOTS


async def first_that_went_on(site: Cluster, clients: list[StreamClient]) -> StreamClient | None:
    for client in clients:
        if client.heard.ids and await went_on(site, client):
            return client
    return None
