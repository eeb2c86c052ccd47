"""Only Redis and the broker's own scripts: how many tokens one server can log and announce, and what a stream takes of
its memory. Chunks are as large as workers make them; a subscriber reads every frame, as a gateway does."""

import asyncio
from dataclasses import dataclass
from time import perf_counter

import psutil

from millstream.bench.command.processes import cost_of
from millstream.bench.harness.redis_info import commands, memory
from millstream.common.broker import workers
from millstream.common.broker.chunks import FrameChannel
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.jobs import Envelope, NewJob, submit
from millstream.common.chunk import Chunk, Seq, Usage, encode_chunk
from millstream.common.hashchain import CHAIN_BASE, chain_text
from millstream.common.job import GatewayId, JobId, JobRequest, ModelName, TextPrompt, WorkerId

MODEL, WORKER, GATEWAY = ModelName("simulated"), WorkerId("worker-of-the-bench"), GatewayId("gateway-of-the-bench")


@dataclass(frozen=True, slots=True)
class Throughput:
    """The throughput of one Redis. `cpu` in µs per token, memory in bytes per stream."""

    streams: int
    tokens_per_chunk: int
    tokens_per_second: float
    cpu: float
    commands_per_step: float
    memory_running: float
    memory_finished: float


class RedisLoad:
    """A worker that has nothing to compute, and a gateway that only counts."""

    def __init__(self, valkey: EmbeddedValkey, broker: Broker, streams: int, tokens_per_chunk: int) -> None:
        self._valkey = valkey
        self._broker = broker
        self._streams = streams
        self._per_chunk = tokens_per_chunk
        ids = [CHAIN_BASE + i for i in range(tokens_per_chunk)]
        self._chunk = encode_chunk(Chunk(ids=ids, text="".join(map(chain_text, ids))))
        self._heard = 0

    async def measure(self, steps: int) -> Throughput:
        """Makes so many steps of all streams, one after the other."""
        listening = asyncio.create_task(self._listen(FrameChannel(self._broker.url, GATEWAY)))
        empty = await memory(self._broker)
        held = await self._begin()
        process = psutil.Process(self._valkey.pid)
        before, calls, began = cost_of(process).cpu, await commands(self._broker), perf_counter()
        for seq in range(1, steps + 1):
            await self._step(held, seq)
        seconds, cpu = perf_counter() - began, cost_of(process).cpu - before
        sent = (await commands(self._broker) - calls) / steps
        running = await memory(self._broker)
        await self._finish(held, steps + 1)
        finished = await memory(self._broker)
        listening.cancel()
        tokens = steps * self._streams * self._per_chunk
        return Throughput(
            self._streams,
            self._per_chunk,
            round(tokens / seconds),
            round(cpu / tokens * 1e6, 3),
            round(sent, 1),
            round((running - empty) / self._streams),
            round((finished - empty) / self._streams),
        )

    async def _listen(self, channel: FrameChannel) -> None:
        async for frames in channel.listen():
            self._heard += len(frames)

    async def _begin(self) -> list[workers.Claimed]:
        await workers.beat(self._broker, MODEL, WORKER, 60_000, {"slots": "100000", "speed": "1", "state": "ready"}, [])
        envelope = Envelope(GATEWAY, "default", "default", timeout_ms=600_000, retention_ms=600_000)
        for i in range(self._streams):
            request = JobRequest(TextPrompt("word " * 64))
            await submit(self._broker, MODEL, envelope, [NewJob(JobId(f"cmpl-{i:032x}"), request)])
        return (await workers.claim(self._broker, MODEL, WORKER, self._streams)).jobs

    async def _step(self, held: list[workers.Claimed], seq: int) -> None:
        for at in range(0, len(held), 128):
            part = [workers.JobStep(job.id, job.lease, Seq(seq), [self._chunk]) for job in held[at : at + 128]]
            answers = await workers.step(self._broker, MODEL, WORKER, part)
            assert all(answer == "ok" for answer, _ in answers), answers[:3]

    async def _finish(self, held: list[workers.Claimed], seq: int) -> None:
        end = workers.End("finished", "stop", encode_chunk(Usage(64, 1)), 65)
        last = encode_chunk(Chunk(finish="stop", usage=Usage(64, 1)))
        for job in held:
            await workers.step(self._broker, MODEL, WORKER, [workers.JobStep(job.id, job.lease, Seq(seq), [last], end)])
