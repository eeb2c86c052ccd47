"""Looks at a job's log: what is there now, without waiting for more and without a word to who follows the job."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from millstream.bench.chaos.proxy import Proxy
from millstream.common.broker import chunks, jobs
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.chunk import NOTHING_YET, Seq
from millstream.common.errors import LogExpired, NotFound, StreamLost
from millstream.common.job import GatewayId, JobId, WorkerId
from millstream.gateway.queue import replay as log_reader
from millstream.gateway.queue.replay import LogReader
from tests.common.broker.world import MODEL, WorkerMind, World

JOB = JobId("j1")
FIRST, ELSEWHERE = GatewayId("g1"), GatewayId("g2")


@dataclass
class LookScene:
    """A running job whose log is being written."""

    world: World
    mind: WorkerMind

    @property
    def reader(self) -> LogReader:
        """Returns the log reader of a gateway that does not follow the job."""
        return self.world.log_reader(ELSEWHERE)

    async def write(self, count: int, end: bool = False) -> None:
        self.mind.holds[JOB].write([1] * count, end)
        await self.world.step(self.mind, reply_lost=False)

    async def seqs(self, after: int = NOTHING_YET, most: int | None = None) -> list[int]:
        found = await self.reader.logged(MODEL, JOB, tenant="acme", after=Seq(after), most=most)
        assert all(chunk.ids == [seq - 1] for seq, chunk in found if not chunk.last)
        return [seq for seq, _ in found]


async def scene_at(broker: Broker) -> LookScene:
    world, mind = World(broker), WorkerMind(WorkerId("w1"))
    await world.beat(mind)
    await world.submit(JOB, FIRST, "acme", "default", "")
    await world.claim(mind, 1, reply_lost=False)
    return LookScene(world, mind)


@pytest.fixture
async def scene(broker: Broker) -> LookScene:
    return await scene_at(broker)


@pytest.fixture
async def lone(own_valkey: EmbeddedValkey) -> AsyncIterator[LookScene]:
    """On a server that the test may stop."""
    async with Broker(own_valkey.url) as broker:
        made = await scene_at(broker)
        await made.write(3)
        yield made


async def test_a_look_sees_what_is_there_and_waits_for_nothing(scene: LookScene) -> None:
    assert await scene.seqs() == []
    await scene.write(3)
    assert await scene.seqs() == [1, 2, 3]
    assert await scene.seqs(after=2) == [3]
    assert await scene.seqs(after=3) == []
    assert await scene.seqs(most=1) == [1]
    assert await scene.seqs(after=1, most=1) == [2]
    await scene.write(0, end=True)
    assert await scene.seqs(after=3) == [4]
    assert await scene.seqs(after=4, most=1) == []


async def test_a_look_takes_nothing_over(scene: LookScene) -> None:
    await scene.write(2)
    before = await jobs.read(scene.world.broker, MODEL, JOB)
    await scene.seqs(after=1)
    assert await jobs.read(scene.world.broker, MODEL, JOB) == before
    assert before["gateway"] == FIRST and "earlier" not in before


@pytest.mark.parametrize(("after", "most"), [(0, None), (1, None), (2, None), (0, 1), (chunks.PAGE, 1)])
async def test_a_long_log_is_read_as_far_as_it_is_asked_for(scene: LookScene, after: int, most: int | None) -> None:
    length = 2 * chunks.PAGE + 1
    await scene.write(length)
    await scene.world.broker.redis.config_resetstat()
    assert await scene.seqs(after, most) == list(range(after + 1, after + 1 + (most or length - after)))
    calls = (await scene.world.broker.redis.info("commandstats"))["cmdstat_xrange"]["calls"]
    assert calls == (1 if most else 3)


@pytest.mark.parametrize("over", [False, True])
async def test_a_place_that_the_log_does_not_reach_is_lost(scene: LookScene, over: bool) -> None:
    with pytest.raises(StreamLost):
        await scene.seqs(after=1)
    await scene.write(2, end=over)
    assert await scene.seqs(after=2 + over) == []
    with pytest.raises(StreamLost):
        await scene.seqs(after=3 + over)


@pytest.mark.parametrize(("tenant", "job"), [("other", JOB), ("acme", JobId("unknown"))])
async def test_anothers_job_is_none(scene: LookScene, tenant: str, job: JobId) -> None:
    await scene.write(2)
    with pytest.raises(NotFound):
        await scene.reader.logged(MODEL, job, tenant=tenant)
    for after in (1, 9):
        with pytest.raises(LogExpired):
            await scene.reader.logged(MODEL, job, tenant=tenant, after=Seq(after))


async def test_a_redis_that_is_away_is_waited_for(lone: LookScene, own_valkey: EmbeddedValkey) -> None:
    await own_valkey.stop()
    looking = asyncio.create_task(lone.seqs(after=1))
    done, _ = await asyncio.wait({looking}, timeout=0.3)
    assert not done
    await own_valkey.restart()
    assert await looking == [2, 3]


async def test_but_not_for_ever(lone: LookScene, own_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "LOOK_PATIENCE", 0)
    await own_valkey.stop()
    with pytest.raises(RedisAway):
        await lone.seqs()


@pytest.mark.parametrize("word", [b"XRANGE", b"HGET"])
async def test_a_lost_reply_costs_a_look_nothing(scene: LookScene, valkey: EmbeddedValkey, word: bytes) -> None:
    await scene.write(3)
    async with Proxy("127.0.0.1", valkey.port) as proxy, Broker(proxy.url) as broker:
        proxy.lose_reply_to(word)
        found = await World(broker).log_reader(ELSEWHERE).logged(MODEL, JOB, tenant="acme", after=Seq(1))
        assert [seq for seq, _ in found] == [2, 3] and proxy.dropped == 1
