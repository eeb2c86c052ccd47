"""One form of URL opens a Redis Cluster, and a Redis with Sentinel that fails over."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from millstream.bench.chaos.server.sentinel import SERVICE, knows_its_replica, sentinels_of
from millstream.common.broker import chunks, jobs, keys, workers
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.embedded import EmbeddedValkey, free_port
from millstream.common.broker.models.directory import announce, census
from millstream.common.chunk import Seq
from millstream.common.job import GatewayId, JobId, JobRequest, ModelName, TextPrompt, WorkerId
from tests.harness.support import wait_until

MODEL, GATEWAY, WORKER = ModelName("tiny"), GatewayId("gw-1"), WorkerId("w1")
ABOUT = {"slots": "2", "speed": "10", "state": "ready"}


async def run_a_job(broker: Broker, id: str) -> list[tuple[Seq, bytes]]:
    """Submit, claim, step, settle; its log."""
    await announce(broker, MODEL)
    await workers.beat(broker, MODEL, WORKER, 5000, ABOUT, [])
    envelope = jobs.Envelope(GATEWAY, "acme", "default", 60_000, 60_000)
    await jobs.submit(broker, MODEL, envelope, [jobs.NewJob(JobId(id), JobRequest(input=TextPrompt("hi")))])
    [job] = (await workers.claim(broker, MODEL, WORKER, 1)).jobs
    end = workers.End("finished", "stop", b"{}", 1)
    await workers.step(broker, MODEL, WORKER, [workers.JobStep(job.id, job.lease, Seq(1), [b'{"text":"a"}'], end)])
    return await chunks.read_log(broker, MODEL, job.id, Seq(0))


def node_of_a_cluster(folder: Path) -> EmbeddedValkey:
    return EmbeddedValkey(folder, options=["--cluster-enabled", "yes", "--cluster-port", str(free_port())])


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A cluster of one node."""
    async with node_of_a_cluster(tmp_path / "node") as node:
        async with Redis.from_url(node.url) as client:
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await wait_until(lambda: _cluster_is_up(client))
        yield node


@pytest.fixture
def cluster_url(node: EmbeddedValkey) -> str:
    return f"redis+cluster://127.0.0.1:{node.port}"


async def _cluster_is_up(client: Redis) -> bool:
    return b"cluster_state:ok" in await client.execute_command("CLUSTER", "INFO", NEVER_DECODE=True)


async def test_a_job_lives_its_whole_life_in_a_cluster_and_its_frames_arrive(cluster_url: str) -> None:
    async with Broker(cluster_url) as broker:
        heard: list[chunks.Frame] = []
        subscribed = asyncio.Event()

        async def listen() -> None:
            async for frames in chunks.FrameChannel(cluster_url, GATEWAY).listen():
                subscribed.set()
                heard.extend(frames)

        listening = asyncio.create_task(listen())
        await subscribed.wait()
        assert await run_a_job(broker, "j1") == [(1, b'{"text":"a"}')]
        await wait_until(lambda: heard)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        assert [frame[:3] for frame in heard] == [("j1", "1:w1", 1)]
        [info] = await census(broker)
        assert (info.name, info.live, info.waiting) == (MODEL, 1, 0)


async def test_a_cluster_that_was_away_is_found_again(cluster_url: str, node: EmbeddedValkey) -> None:
    """Every node had failed once by then."""
    async with Broker(cluster_url) as broker:
        assert await answers(broker)
        await node.kill()
        for _ in range(3):
            assert not await answers(broker)
        await node.restart()
        await wait_until(lambda: answers(broker))


async def test_calls_follow_a_slot_that_moves_to_another_node(
    cluster_url: str, node: EmbeddedValkey, tmp_path: Path
) -> None:
    async with (
        node_of_a_cluster(tmp_path / "second") as second,
        Redis.from_url(node.url, decode_responses=True) as here,
        Redis.from_url(second.url, decode_responses=True) as there,
        Broker(cluster_url) as broker,
    ):
        bus = second_bus(await there.execute_command("CLUSTER", "NODES"))
        await here.execute_command("CLUSTER", "MEET", "127.0.0.1", second.port, bus)
        name = await there.execute_command("CLUSTER", "MYID")
        await wait_until(lambda: knows(here, name))
        assert await answers(broker)
        slot = await here.execute_command("CLUSTER", "KEYSLOT", keys.prefix(MODEL))
        await here.flushall()
        for client in (there, here):
            await client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)
        await wait_until(lambda: answers(broker))
        assert not await here.dbsize()
        assert await there.exists(keys.leases(MODEL))


def second_bus(nodes: str) -> str:
    """The cluster port of a node that knows only itself."""
    return nodes.split()[1].partition("@")[2].partition(",")[0]


async def knows(client: Redis, name: str) -> bool:
    nodes: str = await client.execute_command("CLUSTER", "NODES")
    return any(name in line and " connected" in line and "handshake" not in line for line in nodes.splitlines())


async def test_a_fail_over_is_waited_for_and_what_was_acknowledged_is_there(
    own_valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    replica_of = ["--replicaof", f"127.0.0.1 {own_valkey.port}"]
    async with EmbeddedValkey(tmp_path / "replica", options=replica_of) as replica:
        with sentinels_of(own_valkey, tmp_path) as [port]:
            url = f"redis+sentinel://127.0.0.1:{port}/{SERVICE}"
            async with Broker(url) as broker, Redis.from_url(replica.url) as replica_client:
                await wait_until(lambda: knows_its_replica(port))
                assert len(await run_a_job(broker, "j1")) == 1
                await wait_until(lambda: replica_client.exists(keys.chunks(MODEL, JobId("j1"))))
                await own_valkey.kill()
                await wait_until(lambda: answers(broker), within=30)
                assert (await jobs.read(broker, MODEL, JobId("j1")))["state"] == "finished"
                claim = await workers.claim(broker, MODEL, WORKER, 1)
                assert claim.status == "grace"  # another server's run id: gateways attach before anyone claims


async def answers(broker: Broker) -> bool:
    try:
        await workers.beat(broker, MODEL, WORKER, 60_000, ABOUT, [])
    except RedisAway:
        return False
    return True
