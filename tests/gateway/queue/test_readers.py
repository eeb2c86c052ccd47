"""One job read at several gateways."""

import asyncio

from millstream.common.broker import keys
from millstream.common.broker.jobs import read
from millstream.common.chunk import Chunk
from millstream.common.job import JobId, WorkerId
from millstream.gateway.queue.redis_client import RedisQueueClient
from millstream.gateway.queue.sink import CallbackSink, LoggedChunk
from tests.harness.queue_site import MODEL, Site
from tests.harness.support import wait_until

JOB = JobId("job-1")
WORKER = WorkerId("w1")


async def follow(gateway: RedisQueueClient, into: list[Chunk]) -> None:
    await gateway.follow(MODEL, JOB, CallbackSink(into.append), tenant="acme")


async def readers(site: Site) -> list[str]:
    """The gateways that the worker's steps tell of the job."""
    fence = await site.broker.redis.hget(keys.fences(MODEL, WORKER), JOB)
    return fence.split(" ")[1].split(",") if fence else []


async def read_twice(
    site: Site, one: list[Chunk], two: list[Chunk], tokens: int, watchful: bool = True
) -> tuple[tuple[RedisQueueClient, RedisQueueClient], list[asyncio.Task[None]]]:
    """A job submitted and read at one gateway, then read at another as well."""
    await site.worker(WORKER, rate=50)
    first, second = await site.gateway(watchful=watchful), await site.gateway(watchful=watchful)
    await first.submit(site.submission(tokens=tokens, tenant="acme"))
    reading = [asyncio.create_task(follow(first, one))]
    await wait_until(lambda: len(one) > 3)
    reading.append(asyncio.create_task(follow(second, two)))
    return (first, second), reading


async def test_a_reader_whose_stream_another_gateway_reads_too_goes_on_getting_frames(site: Site) -> None:
    """Without its watchdog a gateway knows of a chunk only from a frame."""
    one: list[Chunk] = []
    two: list[Chunk] = []
    _, reading = await read_twice(site, one, two, tokens=40, watchful=False)
    await asyncio.gather(*reading)
    assert [token for chunk in one for token in chunk.ids] == [token for chunk in two for token in chunk.ids]
    assert one[-1].finish == two[-1].finish == "length"


async def test_who_has_left_is_told_nothing_more(site: Site) -> None:
    (first, second), reading = await read_twice(site, [], two := [], tokens=1000)
    await wait_until(lambda: len(two) > 3)
    assert len(await readers(site)) == 2
    await leave(first, reading[0])
    assert await readers(site) == [(await read(site.broker, MODEL, JOB))["gateway"]]
    await leave(second, reading[1])
    await wait_until(lambda: settled(site))
    assert await readers(site) == []


class Slow(CallbackSink):
    """Takes one piece, and the rest when it has `room`."""

    def __init__(self, into: list[Chunk]) -> None:
        super().__init__(into.append)
        self.room = asyncio.Event()

    def put(self, chunks: list[LoggedChunk]) -> bool:
        return (self.room.is_set() or not self.begun) and super().put(chunks)

    async def drained(self) -> None:
        if self.begun:
            await self.room.wait()


async def test_what_a_full_sink_did_not_take_is_nowhere_but_in_the_log_until_it_has_drained(site: Site) -> None:
    await site.worker(WORKER, rate=100)
    gateway = await site.gateway()
    await gateway.submit(site.submission(tokens=100, tenant="acme"))
    slow = Slow(had := [])
    reading = asyncio.create_task(gateway.follow(MODEL, JOB, slow, tenant="acme"))
    await wait_until(lambda: finished(site))
    before = len(had)
    slow.room.set()
    await reading
    logged = [chunk for _, chunk in await gateway.logged(MODEL, JOB, tenant="acme")]
    assert 0 < before < len(logged) and had == logged and had[-1].finish == "length"


async def leave(gateway: RedisQueueClient, reading: asyncio.Task[None]) -> None:
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await gateway.leave(MODEL, [JOB])


async def settled(site: Site) -> bool:
    return (await read(site.broker, MODEL, JOB))["state"] == "cancelled"


async def finished(site: Site) -> bool:
    return (await read(site.broker, MODEL, JOB))["state"] == "finished"
