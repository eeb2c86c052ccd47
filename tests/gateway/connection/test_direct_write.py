"""Ordinary chunks go straight from frame to socket, while the stream's task waits for nothing else."""

import asyncio

from millstream.common.broker.jobs import Bounds, Envelope
from millstream.common.chunk import NOTHING_YET, Chunk, Seq, encode_chunk
from millstream.common.job import GatewayId, JobId, JobRequest, ModelName, TextPrompt
from millstream.gateway.connection.direct_write import DirectWrite
from millstream.gateway.queue.client import Waiting
from millstream.gateway.queue.job_stream import JobStream, Origin
from tests.harness.support import wait_until


class Socket:
    """Takes chunks while it is `open`."""

    def __init__(self) -> None:
        self.open = True
        self.taken: list[int] = []

    def offer(self, seq: Seq, chunk: Chunk | None) -> bool:
        if self.open and not (chunk and chunk.last):
            self.taken.append(seq)
            return True
        return False


def following(socket: Socket) -> JobStream:
    envelope = Envelope(GatewayId("g"), "t", "default", 60_000, 60_000, bounds=Bounds())
    job_stream = JobStream(ModelName("m"), JobId("j"), "t", NOTHING_YET, Origin(JobRequest(TextPrompt("a")), envelope))
    job_stream.direct = socket.offer
    return job_stream


def arrive(job_stream: JobStream, seq: int, chunk: Chunk | None = None) -> None:
    job_stream.take("1:w", seq, encode_chunk(chunk or Chunk(ids=[seq], text="a")))


async def test_while_the_reader_waits_chunks_go_at_once_and_the_reader_sleeps_on() -> None:
    socket = Socket()
    job_stream = following(socket)
    arrive(job_stream, 1)  # nobody waits yet: kept for the reader
    assert socket.taken == [] and [seq for seq, _ in job_stream.drain()] == [1]
    waiting = asyncio.create_task(job_stream.wait())
    await wait_until(lambda: job_stream._parked)  # pyright: ignore[reportPrivateUsage]
    arrive(job_stream, 2)
    arrive(job_stream, 3)
    assert socket.taken == [2, 3] and not waiting.done() and job_stream.drain() == []
    arrive(job_stream, 4, Chunk(finish="stop"))
    assert await waiting
    assert [seq for seq, _ in job_stream.drain()] == [4]
    assert job_stream.prefix is not None and len(job_stream.prefix) == 4


async def test_after_one_chunk_went_the_long_way_the_next_ones_follow_it() -> None:
    socket = Socket()
    job_stream = following(socket)
    waiting = asyncio.create_task(job_stream.wait())
    await wait_until(lambda: job_stream._parked)  # pyright: ignore[reportPrivateUsage]
    socket.open = False
    arrive(job_stream, 1)
    socket.open = True
    arrive(job_stream, 2)  # the reader has been woken but has not run: 2 must not overtake 1
    await waiting
    assert socket.taken == [] and [seq for seq, _ in job_stream.drain()] == [1, 2]


async def test_a_hole_is_never_jumped() -> None:
    socket = Socket()
    job_stream = following(socket)
    waiting = asyncio.create_task(job_stream.wait())
    await wait_until(lambda: job_stream._parked)  # pyright: ignore[reportPrivateUsage]
    arrive(job_stream, 2)
    await waiting
    assert socket.taken == [] and job_stream.lagging


def test_another_server_than_ours_gets_the_long_way() -> None:
    direct = DirectWrite({"type": "http"})
    direct.open(lambda choice, seq, chunk: b"data: x\n\n")
    assert not direct.take(0, Seq(1), Chunk(ids=[1], text="a"))


async def test_a_place_in_the_queue_goes_straight_to_the_socket_until_the_job_has_begun() -> None:
    socket = Socket()
    job_stream = following(socket)
    job_stream.unsure = False
    place = Waiting(3, None, 1)
    waiting = asyncio.create_task(job_stream.wait())
    await wait_until(lambda: job_stream._parked)  # pyright: ignore[reportPrivateUsage]
    job_stream.stands(place)
    assert (socket.taken, job_stream.waiting, waiting.done()) == ([NOTHING_YET], place, False)
    socket.open = False
    job_stream.stands(place)  # the long way: the reader shows it
    assert await waiting is False
    arrive(job_stream, 1)
    job_stream.stands(place)  # asked before the chunk came
    assert job_stream.waiting is None and socket.taken == [NOTHING_YET]
