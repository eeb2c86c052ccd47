"""A small world around the queue's scripts for the state machine: workers with a memory of their own, clients that keep
what they were given, a log of what could still arrive late.

A job's tokens are 0, 1, 2, ...; a chunk holds some of them, and how many differs from worker to worker, as it does in
life. So a log or a client's answer is right if its tokens are 0 to n, each once.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from millstream.common.broker import jobs, keys, workers
from millstream.common.broker.chunks import read_log
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.chunk import Chunk, Seq, Usage, decode_chunk, encode_chunk
from millstream.common.errors import LogExpired, NotFound, StreamLost
from millstream.common.job import ChatPrompt, GatewayId, JobId, JobRequest, ModelName, Tier, WorkerId
from millstream.gateway.queue.hub import FrameHub
from millstream.gateway.queue.job_stream import JobStream, Origin
from millstream.gateway.queue.replay import LogReader
from millstream.gateway.queue.sink import CallbackSink

MODEL = ModelName("world")
REQUEST = JobRequest(input=ChatPrompt(messages=[{"role": "user", "content": "hi"}]))
LEASE_MS = 600_000
MAX_ATTEMPTS = 3


@dataclass
class Held:
    """One job in a worker's memory: all chunks it knows, how many of them Redis has confirmed."""

    job: workers.Claimed
    written: list[bytes]
    acked: int
    over: bool = False

    @property
    def tokens(self) -> int:
        return sum(len(decode_chunk(raw).ids) for raw in self.written)

    def write(self, sizes: Iterable[int], end: bool) -> None:
        for size in sizes:
            first = self.tokens
            self.written.append(encode_chunk(Chunk(ids=list(range(first, first + size)))))
        if end:
            self.written.append(encode_chunk(Chunk(finish="stop", usage=Usage(1, self.tokens))))
            self.over = True

    def step(self) -> workers.JobStep:
        end = workers.End("finished", "stop", b"{}", self.tokens) if self.over else None
        return workers.JobStep(self.job.id, self.job.lease, Seq(self.acked + 1), tuple(self.written[self.acked :]), end)


@dataclass
class WorkerMind:
    """The beliefs of one worker."""

    id: WorkerId
    slots: int = 2
    state: str = "ready"
    holds: dict[JobId, Held] = field(default_factory=dict[JobId, Held])


@dataclass
class Reader:
    """One client's stream at one gateway, and what it was given before (by another)."""

    follower: JobStream
    gateway: GatewayId
    had: list[int]
    tokens: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.follower.open(CallbackSink(lambda chunk: self.tokens.extend(chunk.ids)))


@dataclass
class World:
    """Everything that moves. Every method is one move, and may be made twice as after a lost reply."""

    broker: Broker
    minds: dict[WorkerId, WorkerMind] = field(default_factory=dict[WorkerId, WorkerMind])
    readers: list[Reader] = field(default_factory=list[Reader])
    late: list[tuple[JobId, str, int, bytes]] = field(default_factory=list)  # frames still under way

    def log_reader(self, gateway: GatewayId) -> LogReader:
        return LogReader(self.broker, gateway, FrameHub())

    async def submit(self, id: str, gateway: GatewayId, tenant: str, tier: Tier, key: str) -> None:
        envelope = jobs.Envelope(gateway, tenant, tier, 60_000, 60_000, idempotency_digest=key, fingerprint=key)
        new = jobs.NewJob(JobId(id), REQUEST)
        answer = await jobs.submit(self.broker, MODEL, envelope, [new])
        assert (await jobs.submit(self.broker, MODEL, envelope, [new])).outcome == "duplicate"
        if answer.outcome != "duplicate":
            follower = JobStream(MODEL, new.id, tenant, Seq(0), Origin(REQUEST, envelope))
            self.readers.append(Reader(follower, gateway, []))

    async def beat(self, mind: WorkerMind) -> None:
        about = {"slots": str(mind.slots), "speed": "10", "state": mind.state}
        pulse = await workers.beat(self.broker, MODEL, mind.id, LEASE_MS, about, list(mind.holds))
        for id in pulse.lost:
            mind.holds.pop(id, None)
        for claimed in pulse.unknown:
            await self.hold(mind, claimed)
        for id in pulse.cancel:
            if held := mind.holds.get(id):
                held.over = True

    async def claim(self, mind: WorkerMind, room: int, reply_lost: bool) -> None:
        room = min(room, mind.slots - len(mind.holds))
        if room <= 0:
            return
        found = await workers.claim(self.broker, MODEL, mind.id, room)
        for claimed in [] if reply_lost else found.jobs:
            await self.hold(mind, claimed)

    async def hold(self, mind: WorkerMind, claimed: workers.Claimed) -> None:
        page = await read_log(self.broker, MODEL, claimed.id, Seq(0))
        written = [raw for _, raw in page]
        mind.holds[claimed.id] = Held(claimed, written, len(written))

    async def give_way(self, mind: WorkerMind) -> None:
        """The worker gives back what it was asked for, whatever it has made meanwhile."""
        for id, held in list(mind.holds.items()):
            if "preempt" in await self.hash(id):
                for _ in range(2):
                    await workers.preempt(self.broker, MODEL, mind.id, [(id, held.job.lease)])
                del mind.holds[id]

    async def step(self, mind: WorkerMind, reply_lost: bool) -> None:
        held = list(mind.holds.values())
        steps = [one.step() for one in held]
        if not steps:
            return
        answers = await workers.step(self.broker, MODEL, mind.id, steps)
        self.late += [
            (step.id, step.lease, step.first + i, raw)
            for step, (answer, _) in zip(steps, answers, strict=True)
            if answer in ("ok", "cancel")
            for i, raw in enumerate(step.chunks)
        ]
        if reply_lost:
            answers = await workers.step(self.broker, MODEL, mind.id, steps)
        for one, step, (answer, seq) in zip(held, steps, answers, strict=True):
            if answer == "fenced" or (answer == "ok" and step.ending is not None):
                mind.holds.pop(one.job.id, None)
            else:
                one.acked = seq

    def deliver(self, index: int) -> None:
        """One frame arrives, early, late or never."""
        job, lease, seq, raw = self.late.pop(index)
        for reader in self.readers:
            if reader.follower.job == job:
                reader.follower.take(lease, seq, raw)

    async def read(self, reader: Reader) -> None:
        """The gateway's watchdog looks, and the stream catches up."""
        follower = reader.follower
        places = [(follower.job, Seq(follower.next - 1))]
        news = await jobs.watch(self.broker, MODEL, reader.gateway, 60_000, places)
        if place := news.get(follower.job):
            follower.told(place, places[0][1])
        try:
            await self.log_reader(reader.gateway).catch_up(follower)
        except StreamLost:
            state = (await self.hash(follower.job)).get("state", "")
            has_all = follower.first == 1  # one that took over in mid-stream has no beginning to put back
            assert not has_all or state not in ("queued", "running"), "what a gateway has of a live job is put back"
            self.readers.remove(reader)
        except (NotFound, LogExpired):
            assert follower.origin is None, "the gateway that submitted a job can do so again"
            self.readers.remove(reader)
        except RedisAway:  # the server is young, and somebody may put the job back
            return

    async def resume(self, reader: Reader, gateway: GatewayId) -> None:
        """The client comes back to another gateway with the place it had."""
        after = Seq(reader.follower.next - 1)
        follower = JobStream(MODEL, reader.follower.job, reader.follower.tenant, after)
        self.readers.remove(reader)
        self.readers.append(Reader(follower, gateway, [*reader.had, *reader.tokens]))
        await self.read(self.readers[-1])

    async def hash(self, job: JobId) -> dict[str, str]:
        return await jobs.read(self.broker, MODEL, job)

    async def tokens_of(self, job: JobId) -> tuple[list[int], list[int]]:
        """A log's seqs and tokens."""
        entries = await self.broker.redis.xrange(keys.chunks(MODEL, job))
        seqs = [int(entry.partition("-")[2]) for entry, _ in entries]
        return seqs, [token for _, fields in entries for token in json.loads(fields["c"]).get("ids", [])]
