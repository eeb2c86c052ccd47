"""Workers that die, freeze, leave and come back, while clients read their answers."""

import asyncio

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.stream import StreamClient
from millstream.common.broker import keys
from tests.harness.cluster import MODEL, PATIENCE, Cluster, StreamTasks, all_exact, heard_some
from tests.harness.support import wait_until


async def begin(
    site: Cluster, gateway: FleetPart, count: int, tokens: int = 150
) -> tuple[list[StreamClient], StreamTasks]:
    """Clients in the middle of their answers."""
    clients = [site.client(gateway, tokens) for _ in range(count)]
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    return clients, running


async def test_streams_outlive_a_killed_worker(site: Cluster) -> None:
    gateway, first, _ = await site.gateway(), await site.worker(simulated_rate="25"), await site.worker()
    clients, running = await begin(site, gateway, 8)
    victim = await site.id_of(first)
    moved = [client for client in clients if await site.holder(client) == victim]
    assert moved, "the worker to be killed runs some of the jobs"
    await first.kill()
    await all_exact(clients, running)
    assert all(client.heard.connections == 1 for client in clients), "no client noticed"
    for client in moved:
        job = await site.job(client.heard.request)
        assert (job["attempt"], int(job["grant"]) > 1) == ("0", True), (
            "it moved, and as it had got further, it counts as no attempt"
        )


async def test_the_only_worker_is_killed_and_its_jobs_wait_for_the_next(site: Cluster) -> None:
    gateway, only = await site.gateway(), await site.worker()
    clients, running = await begin(site, gateway, 4)
    await only.kill()
    await wait_until(lambda: site.broker.redis.xlen(keys.resume(MODEL)), within=PATIENCE, what="the jobs wait")
    await site.worker()
    await all_exact(clients, running)


async def test_a_frozen_worker_that_wakes_up_changes_nothing_and_takes_new_work(site: Cluster) -> None:
    gateway, zombie, _ = await site.gateway(), await site.worker(), await site.worker()
    clients, running = await begin(site, gateway, 8, tokens=300)
    name = await site.id_of(zombie)
    zombie.freeze()
    leases = keys.leases(MODEL)
    await wait_until(lambda: gone(site, leases, name), within=PATIENCE, what="the frozen worker is evicted")
    for client in clients:
        await heard_some(client, len(client.heard.arrivals) + 3)
    zombie.thaw()
    await wait_until(lambda: site.info(zombie), within=PATIENCE, what="it signs in again")
    await all_exact(clients, running)
    assert zombie.told("job_dropped"), "it noticed what it lost"

    again, running = await begin(site, gateway, 12, tokens=100)  # more than the other one has slots
    await all_exact(again, running)
    assert any([await site.holder(client) == name for client in again]), "it takes new work"


async def gone(site: Cluster, zset: str, member: str) -> bool:
    return await site.broker.redis.zscore(zset, member) is None


async def test_a_drained_worker_hands_over_in_mid_stream(site: Cluster) -> None:
    gateway, leaving, _ = await site.gateway(), await site.worker(drain="0.3"), await site.worker()
    clients, running = await begin(site, gateway, 8)
    assert await leaving.stop() == 0
    await all_exact(clients, running)
    for client in clients:
        assert (await site.job(client.heard.request))["attempt"] == "0", "leaving in good order is no attempt"
    assert list(await site.loads()) != [], "the other one is still there"
