"""A server that was just restarted does not know a job: it may still be put back; else its client is told the truth."""

import asyncio
import time

import pytest

from millstream.common.broker import keys
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.directory import announce
from millstream.common.broker.records import uptime
from millstream.common.chunk import Chunk, Seq
from millstream.common.errors import NotFound, StreamLost
from millstream.common.job import JobId
from millstream.gateway.queue.client import Submission
from millstream.gateway.queue.sink import CallbackSink
from tests.harness.queue_site import MODEL, Site, open_site, request
from tests.harness.support import wait_until


class ReadStream(CallbackSink):
    """All that a stream tells, and how often it showed a sign of life."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.alive = 0
        super().__init__(self.chunks.append)

    def show_life(self) -> None:
        self.alive += 1


def made(seconds_ago: float) -> JobId:
    """An id as one of then."""
    return JobId(f"chatcmpl-{int(time.time() - seconds_ago):08x}001{0:05x}{7:016x}")


async def in_grace(site: Site) -> None:
    """The server was restarted, and its grace is a minute from now."""
    info = await site.broker.redis.info("server")
    since = int((time.time() + 60) * 1000)
    await site.broker.redis.hset(keys.server(MODEL), mapping={"run_id": info["run_id"], "since": since})  # type: ignore[misc]


async def test_a_second_reader_waits_until_the_job_is_put_back(site: Site) -> None:
    first, second = await site.gateway(), await site.gateway(watchful=False)
    job = made(5)
    await in_grace(site)
    reading = asyncio.create_task(second.follow(MODEL, job, heard := ReadStream(), tenant="default"))
    await wait_until(lambda: heard.alive, what="a sign of life")
    await announce(site.broker, MODEL)
    await first.submit(Submission(MODEL, [(job, request(8))]))  # as a gateway does that has the job's tokens
    await site.broker.redis.delete(keys.server(MODEL))  # the grace is over
    await site.worker("w")
    await reading
    assert heard.chunks == [chunk for _, chunk in await second.logged(MODEL, job, tenant="default")]
    assert sum(len(chunk.ids) for chunk in heard.chunks) == 8


async def test_what_is_put_back_is_cancelled_as_it_was_asked(site: Site) -> None:
    first, second = await site.gateway(), await site.gateway()
    job = made(5)
    await in_grace(site)
    await site.broker.redis.config_resetstat()
    cancelling = asyncio.create_task(second.cancel(MODEL, [job], tenant="default"))
    await wait_until(lambda: scripts_run(site, 3), what="it was looked for again")
    assert not cancelling.done()
    await site.beat("w", slots="0")
    await first.submit(Submission(MODEL, [(job, request(8))]))
    assert await cancelling == ["cancelled"]


async def scripts_run(site: Site, count: int) -> bool:
    stats = await site.broker.redis.info("commandstats")
    return sum(stats.get(name, {}).get("calls", 0) for name in ("cmdstat_eval", "cmdstat_evalsha")) >= count


async def test_what_does_not_come_back_was_lost_if_it_was_made_before_the_restart(own_valkey: EmbeddedValkey) -> None:
    async with open_site(own_valkey.url) as site:
        gateway = await site.gateway()
        for after in (Seq(0), Seq(3)):
            with pytest.raises(StreamLost, match="Redis was restarted"):
                await gateway.follow(MODEL, made(500), ReadStream(), tenant="default", after=after)
            with pytest.raises(StreamLost, match="Redis was restarted"):
                await gateway.logged(MODEL, made(500), tenant="default", after=after)
        assert not [key async for key in site.broker.redis.scan_iter("ms:*")], "a made-up model leaves nothing"
        for other in (made(-500), JobId("no-id-of-ours")):
            with pytest.raises(NotFound):
                await gateway.follow(MODEL, other, ReadStream(), tenant="default")


async def test_a_model_that_its_workers_announce_again_is_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uptime, "GRACE_MS", 10**9)  # every server is young
    gateway = await site.gateway()
    await site.broker.redis.config_resetstat()
    submitting = asyncio.create_task(gateway.submit(Submission(MODEL, [(made(0), request(8))])))
    await wait_until(lambda: looked_twice(site), what="the model was looked for again")
    assert not submitting.done()
    await announce(site.broker, MODEL)
    assert (await submitting).outcome == "queued"


async def looked_twice(site: Site) -> bool:
    stats = await site.broker.redis.info("commandstats")
    return stats.get("cmdstat_smembers", {}).get("calls", 0) > 1
