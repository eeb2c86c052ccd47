"""One subscription and one reader for the whole gateway process: frames in, each to the streams that follow its job.

The reader never blocks. Pub/sub may lose messages, and a lost last one is no hole, so a watchdog asks Redis about every
stream that has been silent; after any new subscription every stream is attached again and repaired from its log.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from time import monotonic

import structlog

from common.backoff import Backoff
from common.broker.chunks import FrameChannel
from common.broker.connect import Broker, RedisAway
from common.broker.jobs import watch
from common.chunk import Seq
from common.job import GatewayId, JobId, ModelName
from gateway.following import SILENT, Follower

TICK = 0.25  # seconds between two rounds of the watchdog
SILENT_MOST = 4.0  # seconds: the pause between two questions doubles from SILENT up to this
BATCH = 256  # streams per call: about a millisecond of Redis
GATEWAY_TTL_MS = 10_000  # a gateway not heard of for so long is dead

log = structlog.stdlib.get_logger(part="switchboard")


class Switchboard:
    """The streams of one gateway process, by job; a job may have several (a retry beside the first try)."""

    def __init__(self, broker: Broker, gateway: GatewayId, keep_alive: float) -> None:
        self._broker = broker
        self._gateway = gateway
        self._keep_alive = keep_alive
        self._followers: dict[str, list[Follower]] = defaultdict(list)
        self._proved = 0.0  # when Redis was last told that this gateway lives

    def __len__(self) -> int:
        return sum(map(len, self._followers.values()))

    def add(self, follower: Follower) -> None:
        self._followers[follower.job].append(follower)

    def remove(self, follower: Follower) -> None:
        """Forget a stream; one that is not there is fine."""
        streams = self._followers.get(follower.job, [])
        if follower in streams:
            streams.remove(follower)
        if not streams:
            self._followers.pop(follower.job, None)

    def expected(self, job: JobId) -> Follower | None:
        """The stream prepared when this gateway submitted the job, if nobody reads it yet."""
        return next((each for each in self._followers.get(job, ()) if not each.read), None)

    def reads(self, job: JobId) -> bool:
        """Whether somebody here reads the job's stream."""
        return any(each.read for each in self._followers.get(job, ()))

    def __iter__(self) -> Iterator[Follower]:
        return (each for streams in list(self._followers.values()) for each in list(streams))

    async def read(self, channel: FrameChannel) -> None:
        """Hand out frames for ever; ends by cancellation only."""
        backoff, lost = Backoff(), False
        while True:
            try:
                async for frames in channel.listen():
                    if not frames:
                        self._subscribed()
                        backoff.reset()
                        lost = False
                    for job, lease, seq, raw in frames:
                        for follower in self._followers.get(job, ()):
                            follower.take(lease, seq, raw)
            except RedisAway as error:
                if not lost:  # said once, until the subscription stands again
                    log.warning("frames_lost", error=error.message)
                lost = True
                self._lose_place()  # at once: Redis may come back with another log than the one we were reading
                await backoff.sleep()

    def _subscribed(self) -> None:
        """What came before this subscription may be lost, and Redis may be another one: attach every stream again."""
        log.info("frames_subscribed", streams=len(self))
        self._lose_place()

    def _lose_place(self) -> None:
        for follower in self:
            if not follower.done:
                follower.lost()

    async def watch(self) -> None:
        """Ask about silent streams and wake idle ones, for ever; ends by cancellation only."""
        while True:
            await asyncio.sleep(TICK)
            try:
                await self._ask(self._silent(monotonic()))
            except RedisAway as error:
                log.debug("watch_failed", error=error.message)

    def _silent(self, now: float) -> dict[ModelName, list[Follower]]:
        """The streams due to be asked about, by model. Ten thousand that wait cost one comparison each per round."""
        due: dict[ModelName, list[Follower]] = {}
        if now - self._proved > GATEWAY_TTL_MS / 4000:
            self._proved = now
            due = {follower.model: [] for follower in self if not (follower.done or follower.unsure)}
        for follower in self:
            if now >= follower.look_at and self._look(follower, now):
                due.setdefault(follower.model, []).append(follower)
        return due

    def _look(self, follower: Follower, now: float) -> bool:
        """Whether to ask about this stream now: after half a second of silence, then ever more rarely."""
        if now - max(follower.heard, follower.nudged) > self._keep_alive:
            follower.nudged = now
            follower.wake()
        ask = not (follower.done or follower.unsure) and now - max(follower.heard, follower.asked) > _pause(follower)
        if ask:
            follower.asked = now
        silent_since = max(follower.heard, follower.asked)
        follower.look_at = min(silent_since + _pause(follower), max(follower.heard, follower.nudged) + self._keep_alive)
        return ask

    async def _ask(self, due: dict[ModelName, list[Follower]]) -> None:
        for model, followers in due.items():
            for at in range(0, max(len(followers), 1), BATCH):
                await self._ask_some(model, followers[at : at + BATCH])

    async def _ask_some(self, model: ModelName, followers: list[Follower]) -> None:
        places = [(each.job, Seq(each.next - 1)) for each in followers]
        news = await watch(self._broker, model, self._gateway, GATEWAY_TTL_MS, places)
        for follower, (job, had) in zip(followers, places, strict=True):
            if place := news.get(job):
                follower.told(place, had)


def _pause(follower: Follower) -> float:
    return min(max(SILENT, (follower.asked - follower.heard) * 2), SILENT_MOST)
