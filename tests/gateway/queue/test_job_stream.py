"""Frames are pushed into the sink of who follows the job: at once, in order, and never past a hole or a full sink."""

import asyncio

import pytest

from millstream.common.broker.jobs import Bounds, Envelope
from millstream.common.chunk import NOTHING_YET, Chunk, Seq, encode_chunk
from millstream.common.job import GatewayId, JobId, JobRequest, ModelName, TextPrompt
from millstream.gateway.queue.client import Waiting
from millstream.gateway.queue.job_stream import BUFFER, JobStream, Origin
from millstream.gateway.queue.sink import LoggedChunk


class Taking:
    """A sink that takes chunks while it is not `full`, and fails at the chunk `fails_at`."""

    def __init__(self, fails_at: int = 0) -> None:
        self.full = False
        self.taken: list[int] = []
        self.alive = 0
        self._fails_at = fails_at

    def put(self, chunks: list[LoggedChunk]) -> bool:
        if self.full:
            return False
        for seq, _ in chunks:
            if seq == self._fails_at:
                raise LookupError("a bug of ours")
            self.taken.append(seq)
        return True

    def show_life(self) -> None:
        self.alive += 1

    async def drained(self) -> None: ...


def submitted() -> JobStream:
    envelope = Envelope(GatewayId("g"), "t", "default", 60_000, 60_000, bounds=Bounds())
    return JobStream(ModelName("m"), JobId("j"), "t", NOTHING_YET, Origin(JobRequest(TextPrompt("a")), envelope))


def followed(sink: Taking) -> JobStream:
    job_stream = submitted()
    job_stream.open(sink)
    return job_stream


def encoded(seq: int) -> bytes:
    return encode_chunk(Chunk(ids=[seq], text="a"))


def arrive(job_stream: JobStream, *seqs: int) -> None:
    for seq in seqs:
        job_stream.take("1:w", seq, encoded(seq))


async def test_chunks_go_at_once_and_who_follows_sleeps_until_the_last() -> None:
    sink = Taking()
    job_stream = followed(sink)
    waiting = asyncio.create_task(job_stream.wait())
    await asyncio.sleep(0)
    arrive(job_stream, 1, 2, 3)
    assert sink.taken == [1, 2, 3] and not waiting.done()
    job_stream.take("1:w", 4, encode_chunk(Chunk(finish="stop")))
    await waiting
    assert sink.taken == [1, 2, 3, 4] and job_stream.done
    assert job_stream.prefix is not None and len(job_stream.prefix) == 4


def test_what_comes_before_anybody_follows_is_kept_up_to_a_bound() -> None:
    sink, job_stream = Taking(), submitted()
    arrive(job_stream, *range(1, BUFFER + 3))
    assert job_stream.lagging and job_stream.next == BUFFER + 1
    job_stream.open(sink)
    assert sink.taken == list(range(1, BUFFER + 1))


def test_nothing_overtakes_what_a_full_sink_has_not_taken() -> None:
    sink = Taking()
    job_stream = followed(sink)
    arrive(job_stream, 1)
    sink.full = True
    arrive(job_stream, 2)
    sink.full = False
    arrive(job_stream, 3)
    assert sink.taken == [1] and job_stream.lagging and job_stream.delivered.chunks == [encoded(1)]
    job_stream.accept([(Seq(seq), encoded(seq)) for seq in (2, 3)])
    arrive(job_stream, 4)
    assert sink.taken == [1, 2, 3, 4]


def test_a_hole_is_never_jumped_neither_of_the_frames_nor_of_the_log() -> None:
    sink = Taking()
    job_stream = followed(sink)
    arrive(job_stream, 2)
    assert sink.taken == [] and job_stream.lagging
    job_stream.accept([(Seq(seq), encoded(seq)) for seq in (1, 2, 4)])
    assert sink.taken == [1, 2]


def test_of_a_page_only_that_is_taken_which_no_frame_has_brought_meanwhile() -> None:
    sink = Taking()
    job_stream = followed(sink)
    arrive(job_stream, 1, 2)
    job_stream.accept([(Seq(seq), encoded(seq)) for seq in (1, 2, 3)])
    job_stream.accept([])
    assert sink.taken == [1, 2, 3]


@pytest.mark.parametrize("early", [True, False])
def test_a_sink_that_fails_ends_its_own_following_and_gets_nothing_more(early: bool) -> None:
    sink, job_stream = Taking(fails_at=2), submitted()
    arrive(job_stream, *((1, 2) if early else ()))
    job_stream.open(sink)
    arrive(job_stream, 1, 2, 3)
    assert job_stream.done and isinstance(job_stream.failure, LookupError) and sink.taken == [1]


def test_a_place_in_the_queue_is_a_sign_of_life_until_the_job_has_begun() -> None:
    sink, place = Taking(), Waiting(3, None, 1)
    job_stream = followed(sink)
    job_stream.stands(place)
    assert (sink.alive, job_stream.waiting) == (1, place)
    arrive(job_stream, 1)
    job_stream.stands(place)  # asked before the chunk came
    assert (sink.alive, job_stream.waiting) == (1, None)
