"""Redis with Sentinel: its machine dies in the middle of answers, a replica takes over, and the answers go on."""

import asyncio
from pathlib import Path

from redis.asyncio import Redis

from millstream.bench.chaos.fleet import Fleet
from millstream.bench.chaos.server.sentinel import SERVICE, knows_its_replica, sentinels_of
from millstream.common.broker.embedded import EmbeddedValkey
from tests.harness.cluster import all_exact, cluster, heard_some
from tests.harness.support import wait_until


async def test_answers_go_on_when_a_replica_takes_over(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    replica_of = ["--replicaof", f"127.0.0.1 {own_valkey.port}"]
    async with (
        EmbeddedValkey(tmp_path / "replica", options=replica_of) as replica,
        cluster(own_valkey, tmp_path) as site,
    ):
        with sentinels_of(own_valkey, tmp_path) as [port]:
            await wait_until(lambda: knows_its_replica(port))
            fleet = Fleet(tmp_path / "with-sentinel", f"redis+sentinel://127.0.0.1:{port}/{SERVICE}", lease="2.0")
            async with fleet, Redis.from_url(replica.url) as replica_client:
                gateway = await fleet.gateway()
                for _ in range(2):
                    await fleet.worker(simulated_rate="50", simulated_length="100000")
                await wait_until(lambda: replica_client.zcard("ms:{simulated}:leases"))
                clients = [site.client(gateway, 300) for _ in range(4)]
                running = [asyncio.create_task(client.run()) for client in clients]
                for client in clients:
                    await heard_some(client)
                await own_valkey.kill()
                await all_exact(clients, running)
                assert all(client.heard.connections == 1 for client in clients)
