"""The watchdog: asks Redis about streams that have been silent, tells those that wait their place in the queue, and
shows a sign of life where there is nothing to tell. What a waiting request costs is what is done here, so all are asked
about together, and the farther back one is, the more rarely."""

import asyncio
from time import monotonic

import structlog

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.jobs import watch
from millstream.common.chunk import Seq
from millstream.common.job import GatewayId, ModelName
from millstream.gateway.queue.hub import Switchboard
from millstream.gateway.queue.job_stream import SILENT, Follower
from millstream.gateway.queue.timing_wheel import TICK
from millstream.gateway.queue.wait_estimate import Forecast

SILENT_MOST = 4.0  # seconds: the pause between two questions about a running job doubles from SILENT up to this
QUEUED = 2.0  # seconds between two questions about a job that waits at the front
NEAR = 16  # a place: twice as far back, asked about half as often
BATCH = 64  # streams per call: half a millisecond of Redis
GATEWAY_TTL_MS = 10_000  # a gateway not heard of for so long is dead

log = structlog.stdlib.get_logger(part="watchdog")


class Watchdog:
    """Of all streams of a switchboard. `keep_alive`: seconds of silence until a stream shows that it lives."""

    def __init__(
        self, broker: Broker, gateway: GatewayId, switchboard: Switchboard, forecast: Forecast, keep_alive: float
    ) -> None:
        self._broker = broker
        self._gateway = gateway
        self._switchboard = switchboard
        self._forecast = forecast
        self._keep_alive = keep_alive
        self._proved = 0.0  # when Redis was last told that this gateway lives

    async def watch(self) -> None:
        """For ever; ends by cancellation only."""
        while True:
            await asyncio.sleep(TICK)
            now = monotonic()
            due = self._switchboard.rounds.due(now)
            try:
                await self._ask(self._questions(due, now))
            except RedisAway as error:
                log.debug("watch_failed", error=error.message)
            for follower in due:
                self._look_again(follower, now)

    def _questions(self, due: list[Follower], now: float) -> dict[ModelName, list[Follower]]:
        """The streams to be asked about, by model."""
        asked: dict[ModelName, list[Follower]] = {}
        if now - self._proved > GATEWAY_TTL_MS / 4000:
            self._proved = now
            asked = {each.model: [] for each in self._switchboard if not (each.done or each.unsure)}
        for follower in due:
            if now - max(follower.heard, follower.nudged) > self._keep_alive:
                follower.show_life()
            silent = now - max(follower.heard, follower.asked)
            if silent > self._pause(follower) and not (follower.done or follower.unsure):
                follower.asked = now
                asked.setdefault(follower.model, []).append(follower)
        return asked

    def _pause(self, follower: Follower) -> float:
        """Seconds until a stream is asked about (again): half a second of silence, then ever more rarely."""
        if follower.waiting is not None:
            return follower.spread * pause_at(follower.waiting.position, self._keep_alive)
        return min(max(SILENT, (follower.asked - follower.heard) * 2), SILENT_MOST)

    def _look_again(self, follower: Follower, now: float) -> None:
        silence = max(follower.heard, follower.asked) + self._pause(follower)
        follower.look_at = min(silence, max(follower.heard, follower.nudged) + self._keep_alive)
        self._switchboard.rounds.looked(follower, now)

    async def _ask(self, questions: dict[ModelName, list[Follower]]) -> None:
        for model, followers in questions.items():
            for at in range(0, max(len(followers), 1), BATCH):
                await self._ask_some(model, followers[at : at + BATCH])

    async def _ask_some(self, model: ModelName, followers: list[Follower]) -> None:
        had = [(each.job, Seq(each.next - 1)) for each in followers]
        news = await watch(self._broker, model, self._gateway, GATEWAY_TTL_MS, had)
        service = await self._forecast.service(model) if news else None
        for follower, (job, seq) in zip(followers, had, strict=True):
            place = news.get(job)
            follower.stands(service.waiting(place.ahead + 1) if service and place and place.ahead >= 0 else None)
            if place:
                follower.told(place, seq)


def pause_at(position: int, most: float) -> float:
    """Seconds until a stream at that place of its queue is told it again, at most `most`: far back little changes."""
    return min(QUEUED * (1 + position / NEAR), most)
