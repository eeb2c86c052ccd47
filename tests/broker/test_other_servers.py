"""The same door opens a Redis Cluster, and a Redis behind Sentinel that fails over."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from redis.asyncio import Redis

from common.broker import chunks, jobs, keys, workers
from common.broker.connect import Broker, RedisAway
from common.broker.directory import announce, census
from common.broker.embedded import EmbeddedValkey, free_port
from common.chunk import Seq
from common.job import GatewayId, JobId, JobRequest, ModelName, TextPrompt, WorkerId
from tests.sentinel import SERVICE, knows_its_replica, sentinel_of
from tests.support import wait_until

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


@pytest_asyncio.fixture
async def cluster_url(tmp_path: Path) -> AsyncIterator[str]:
    async with EmbeddedValkey(
        tmp_path / "node", options=["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    ) as node:
        async with Redis.from_url(node.url) as client:
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await wait_until(lambda: _cluster_is_up(client))
        yield f"redis+cluster://127.0.0.1:{node.port}"


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


async def test_a_fail_over_is_waited_for_and_what_was_acknowledged_is_there(
    own_valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    replica_of = ["--replicaof", f"127.0.0.1 {own_valkey.port}"]
    async with EmbeddedValkey(tmp_path / "replica", options=replica_of) as replica:
        with sentinel_of(own_valkey, tmp_path) as port:
            url = f"redis+sentinel://127.0.0.1:{port}/{SERVICE}"
            async with Broker(url) as broker, Redis.from_url(replica.url) as behind:
                await wait_until(lambda: knows_its_replica(port))
                assert len(await run_a_job(broker, "j1")) == 1
                await wait_until(lambda: behind.exists(keys.chunks(MODEL, JobId("j1"))))
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
