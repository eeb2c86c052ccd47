"""Which chunks go straight from frame to socket: ordinary ones, while the stream's task waits for nothing else."""

import asyncio

from millstream.common.broker.jobs import Bounds, Envelope
from millstream.common.chunk import NOTHING_YET, Chunk, Seq, encode_chunk
from millstream.common.job import GatewayId, JobId, JobRequest, ModelName, TextPrompt
from millstream.gateway.connection.direct_write import Express
from millstream.gateway.queue.client import Waiting
from millstream.gateway.queue.job_stream import Follower, Origin
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


def following(socket: Socket) -> Follower:
    envelope = Envelope(GatewayId("g"), "t", "default", 60_000, 60_000, bounds=Bounds())
    follower = Follower(ModelName("m"), JobId("j"), "t", NOTHING_YET, Origin(JobRequest(TextPrompt("a")), envelope))
    follower.express = socket.offer
    return follower


def arrive(follower: Follower, seq: int, chunk: Chunk | None = None) -> None:
    follower.take("1:w", seq, encode_chunk(chunk or Chunk(ids=[seq], text="a")))


async def test_while_the_reader_waits_chunks_go_at_once_and_the_reader_sleeps_on() -> None:
    socket = Socket()
    follower = following(socket)
    arrive(follower, 1)  # nobody waits yet: kept for the reader
    assert socket.taken == [] and [seq for seq, _ in follower.drain()] == [1]
    waiting = asyncio.create_task(follower.wait())
    await wait_until(lambda: follower._parked)  # pyright: ignore[reportPrivateUsage]
    arrive(follower, 2)
    arrive(follower, 3)
    assert socket.taken == [2, 3] and not waiting.done() and follower.drain() == []
    arrive(follower, 4, Chunk(finish="stop"))
    assert await waiting
    assert [seq for seq, _ in follower.drain()] == [4]
    assert follower.prefix is not None and len(follower.prefix) == 4


async def test_after_one_chunk_went_the_long_way_the_next_ones_follow_it() -> None:
    socket = Socket()
    follower = following(socket)
    waiting = asyncio.create_task(follower.wait())
    await wait_until(lambda: follower._parked)  # pyright: ignore[reportPrivateUsage]
    socket.open = False
    arrive(follower, 1)
    socket.open = True
    arrive(follower, 2)  # the reader has been woken but has not run: 2 must not overtake 1
    await waiting
    assert socket.taken == [] and [seq for seq, _ in follower.drain()] == [1, 2]


async def test_a_hole_is_never_jumped() -> None:
    socket = Socket()
    follower = following(socket)
    waiting = asyncio.create_task(follower.wait())
    await wait_until(lambda: follower._parked)  # pyright: ignore[reportPrivateUsage]
    arrive(follower, 2)
    await waiting
    assert socket.taken == [] and follower.behind


def test_another_server_than_ours_gets_the_long_way() -> None:
    express = Express({"type": "http"})
    express.open(lambda choice, seq, chunk: b"data: x\n\n")
    assert not express.take(0, Seq(1), Chunk(ids=[1], text="a"))


async def test_a_place_in_the_queue_goes_straight_to_the_socket_until_the_job_has_begun() -> None:
    socket = Socket()
    follower = following(socket)
    follower.unsure = False
    place = Waiting(3, None, 1)
    waiting = asyncio.create_task(follower.wait())
    await wait_until(lambda: follower._parked)  # pyright: ignore[reportPrivateUsage]
    follower.stands(place)
    assert (socket.taken, follower.waiting, waiting.done()) == ([NOTHING_YET], place, False)
    socket.open = False
    follower.stands(place)  # the long way: the reader shows it
    assert await waiting is False
    arrive(follower, 1)
    follower.stands(place)  # asked before the chunk came
    assert follower.waiting is None and socket.taken == [NOTHING_YET]
