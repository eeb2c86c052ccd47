"""The watchdog: asks Redis about streams that have been silent, tells those that wait their place in the queue, and
shows a sign of life where there is nothing to tell. What a waiting request costs is what is done here, so all are asked
about together, and the farther back one is, the more rarely."""

import asyncio
from time import monotonic

import structlog

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.connection.by_server import grouped
from millstream.common.broker.jobs import watch
from millstream.common.chunk import Seq
from millstream.common.job import GatewayId, ModelName
from millstream.gateway.queue.hub import FrameHub
from millstream.gateway.queue.job_stream import JobStream
from millstream.gateway.queue.timing_wheel import TICK
from millstream.gateway.queue.wait_estimate import WaitEstimator

SILENT_MOST = 4.0  # seconds: the pause between two questions about a running job doubles from SILENT up to this
QUEUED = 2.0  # seconds between two questions about a job that waits at the front
NEAR = 16  # a place: twice as far back, asked about half as often
BATCH = 64  # streams per call: half a millisecond of Redis
PATIENCE = 1.0  # seconds that a round waits for the servers' answers
GATEWAY_TTL_MS = 10_000  # a gateway not heard of for so long is dead

log = structlog.stdlib.get_logger(part="watchdog")


class Watchdog:
    """The watchdog over all streams of a hub. `keep_alive`: seconds of silence until a stream shows that it lives."""

    def __init__(
        self, broker: Broker, gateway: GatewayId, hub: FrameHub, wait_estimator: WaitEstimator, keep_alive: float
    ) -> None:
        self._broker = broker
        self._gateway = gateway
        self._hub = hub
        self._wait_estimator = wait_estimator
        self._keep_alive = keep_alive
        self._asking: dict[Broker, asyncio.Task[None]] = {}  # one question at a time to each server
        self._proved = 0.0  # when Redis was last told that this gateway lives

    async def watch(self) -> None:
        """Watches for ever; ends by cancellation only."""
        try:
            while True:
                await asyncio.sleep(TICK)
                now = monotonic()
                due = self._hub.wheel.due(now)
                await self._ask(self._questions(due, now))
                for job_stream in due:
                    self._look_again(job_stream, now)
        finally:
            for task in self._asking.values():
                task.cancel()

    def _questions(self, due: list[JobStream], now: float) -> dict[ModelName, list[JobStream]]:
        """Returns the streams to be asked about, by model."""
        asked: dict[ModelName, list[JobStream]] = {}
        if now - self._proved > GATEWAY_TTL_MS / 4000:
            self._proved = now
            asked = {each.model: [] for each in self._hub if not (each.done or each.unsure)}
        for job_stream in due:
            if now - max(job_stream.heard, job_stream.nudged) > self._keep_alive:
                job_stream.show_life()
            silent = now - max(job_stream.heard, job_stream.asked)
            if silent > self._pause(job_stream) and not (job_stream.done or job_stream.unsure):
                job_stream.asked = now
                asked.setdefault(job_stream.model, []).append(job_stream)
        return asked

    def _pause(self, job_stream: JobStream) -> float:
        """Returns the seconds until a stream is asked about (again): half a second of silence, then ever more
        rarely."""
        if job_stream.waiting is not None:
            return job_stream.spread * pause_at(job_stream.waiting.position, self._keep_alive)
        return min(max(job_stream.silent, (job_stream.asked - job_stream.heard) * 2), SILENT_MOST)

    def _look_again(self, job_stream: JobStream, now: float) -> None:
        silence = max(job_stream.heard, job_stream.asked) + self._pause(job_stream)
        job_stream.look_at = min(silence, max(job_stream.heard, job_stream.nudged) + self._keep_alive)
        self._hub.wheel.looked(job_stream, now)

    async def _ask(self, questions: dict[ModelName, list[JobStream]]) -> None:
        """Asks all servers at once. One that is silent is not waited for beyond `PATIENCE`, nor asked again before
        it has answered or its connection is given up: the streams of others are not to wait for it."""
        for server, models in grouped(self._broker, questions).items():
            if server not in self._asking:
                its_own = {model: questions[model] for model in models}
                self._asking[server] = asyncio.create_task(self._ask_server(its_own), name="watchdog's question")
        if not self._asking:
            return
        await asyncio.wait(self._asking.values(), timeout=PATIENCE)
        over = {server: task for server, task in self._asking.items() if task.done()}
        for server in over:
            del self._asking[server]
        for task in over.values():
            task.result()

    async def _ask_server(self, questions: dict[ModelName, list[JobStream]]) -> None:
        try:
            for model, job_streams in questions.items():
                for at in range(0, max(len(job_streams), 1), BATCH):
                    await self._ask_some(model, job_streams[at : at + BATCH])
        except RedisAway as error:
            log.debug("watch_failed", error=error.message)

    async def _ask_some(self, model: ModelName, job_streams: list[JobStream]) -> None:
        had = [(each.job, Seq(each.next - 1)) for each in job_streams]
        news = await watch(self._broker, model, self._gateway, GATEWAY_TTL_MS, had)
        service = await self._wait_estimator.service(model) if news else None
        for job_stream, (job, seq) in zip(job_streams, had, strict=True):
            place = news.get(job)
            job_stream.stands(service.waiting(place.ahead + 1) if service and place and place.ahead >= 0 else None)
            if place:
                job_stream.told(place, seq)


def pause_at(position: int, most: float) -> float:
    """Returns the seconds until a stream at that place of its queue is told it again, at most `most`: far back little
    changes."""
    return min(QUEUED * (1 + position / NEAR), most)
