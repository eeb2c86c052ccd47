"""A server that was just restarted does not know a job: it may still be put back; else its client is told the truth."""

import time
from collections.abc import AsyncIterator

import pytest

from millstream.common.broker import keys
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.chunk import Chunk, Seq
from millstream.common.errors import NotFound, StreamLost
from millstream.common.job import JobId
from millstream.gateway.queue.client import Submission
from tests.harness.queue_site import MODEL, Site, open_site, request

Items = list[tuple[Seq, Chunk]]


def made(seconds_ago: float) -> JobId:
    """An id as one of then."""
    return JobId(f"chatcmpl-{int(time.time() - seconds_ago):08x}001{0:05x}{7:016x}")


async def told(stream: AsyncIterator[Items]) -> Items:
    """All that a stream tells, or its error."""
    return [item async for items in stream for item in items]


async def in_grace(site: Site) -> None:
    """The server was restarted, and its grace is a minute from now."""
    info = await site.broker.redis.info("server")
    since = int((time.time() + 60) * 1000)
    await site.broker.redis.hset(keys.server(MODEL), mapping={"run_id": info["run_id"], "since": since})  # type: ignore[misc]


async def test_a_second_reader_waits_until_the_job_is_put_back(site: Site) -> None:
    first, second = await site.gateway(), await site.gateway(watchful=False)
    job = made(5)
    await in_grace(site)
    reading = second.follow(MODEL, job, tenant="default")
    assert await anext(reading) == [], "a sign of life"
    await site.broker.redis.delete(keys.server(MODEL))
    await site.worker("w")
    await first.submit(Submission(MODEL, [(job, request(8))]))  # as a gateway does that has the job's tokens
    items = await told(reading)
    assert [seq for seq, _ in items] == list(range(1, len(items) + 1))
    assert sum(len(chunk.ids) for _, chunk in items) == 8


async def test_what_does_not_come_back_was_lost_if_it_was_made_before_the_restart(own_valkey: EmbeddedValkey) -> None:
    async with open_site(own_valkey.url) as site:
        gateway = await site.gateway()
        for after in (Seq(0), Seq(3)):
            with pytest.raises(StreamLost, match="Redis was restarted"):
                await told(gateway.follow(MODEL, made(500), tenant="default", after=after))
            with pytest.raises(StreamLost, match="Redis was restarted"):
                await gateway.logged(MODEL, made(500), tenant="default", after=after)
        for other in (made(-500), JobId("no-id-of-ours")):
            with pytest.raises(NotFound):
                await told(gateway.follow(MODEL, other, tenant="default"))
