"""One subscription and one reader for each server: frames in, each to the streams that follow its job.

The reader never blocks. Pub/sub may lose messages, and a lost last one is no hole, so `gateway.queue.watchdog` asks
Redis about every stream that has been silent; after any new subscription every stream is attached again and repaired
from its log.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

import structlog

from millstream.common.broker.chunks import FrameChannel
from millstream.common.broker.connection.broker import RedisAway
from millstream.common.job import JobId, ModelName
from millstream.common.process.backoff import Backoff
from millstream.gateway.queue.client import Waiting
from millstream.gateway.queue.job_stream import JobStream
from millstream.gateway.queue.job_times import TellTimes
from millstream.gateway.queue.timing_wheel import TimingWheel

log = structlog.stdlib.get_logger(part="frame_hub")


class FrameHub:
    """The streams of one gateway process, by job; a job may have several (a retry beside the first try)."""

    def __init__(self) -> None:
        self._tell: TellTimes | None = None
        self._followers: dict[str, list[JobStream]] = defaultdict(list)
        self.wheel = TimingWheel()

    def __len__(self) -> int:
        return sum(map(len, self._followers.values()))

    def add(self, job_stream: JobStream) -> None:
        self._followers[job_stream.job].append(job_stream)
        self.wheel.add(job_stream)

    def tell_times(self, tell: TellTimes) -> None:
        """Has `tell` called, from now on, with the times of each stream that was read, when it ends."""
        self._tell = tell

    def remove(self, job_stream: JobStream) -> None:
        """Forgets a stream; one that is not there is fine."""
        self.wheel.remove(job_stream)
        streams = self._followers.get(job_stream.job, [])
        if job_stream in streams:
            streams.remove(job_stream)
            if job_stream.read and self._tell is not None:
                self._tell(job_stream.times)
        if not streams:
            self._followers.pop(job_stream.job, None)

    def expected(self, job: JobId) -> JobStream | None:
        """Returns the stream prepared when this gateway submitted the job, if nobody reads it yet."""
        return next((each for each in self._followers.get(job, ()) if not each.read), None)

    def reads(self, job: JobId) -> bool:
        """Tells whether somebody here reads the job's stream."""
        return any(each.read for each in self._followers.get(job, ()))

    def waiting(self, job: JobId) -> Waiting | None:
        """Returns the job's place in its queue, as last told; None if that is not known, or it waits no more."""
        return next((each.waiting for each in self._followers.get(job, ())), None)

    def __iter__(self) -> Iterator[JobStream]:
        return (each for streams in list(self._followers.values()) for each in list(streams))

    async def read(self, channel: FrameChannel, mine: Callable[[ModelName], bool] = lambda model: True) -> None:
        """Hands out one server's frames for ever; ends by cancellation only. `mine`: whether a model's queue is there,
        so that its streams lose their place when the subscription is lost."""
        backoff, lost = Backoff(), False
        while True:
            try:
                async for frames in channel.listen():
                    if not frames:
                        self._subscribed(mine)
                        backoff.reset()
                        lost = False
                    for job, lease, seq, raw in frames:
                        for job_stream in self._followers.get(job, ()):
                            job_stream.take(lease, seq, raw)
                            if job_stream.resting:
                                self.wheel.rouse(job_stream)
            except RedisAway as error:
                if not lost:  # said once, until the subscription stands again
                    log.warning("frames_lost", error=error.message)
                lost = True
                self._lose_place(
                    mine, broken=True
                )  # at once: Redis may come back with another log than we were reading
                await backoff.sleep()

    def _subscribed(self, mine: Callable[[ModelName], bool]) -> None:
        """Attaches every stream again: what came before this subscription may be lost, and Redis may be another one."""
        log.info("frames_subscribed", streams=len(self))
        self._lose_place(mine)

    def _lose_place(self, mine: Callable[[ModelName], bool], *, broken: bool = False) -> None:
        for job_stream in self:
            if mine(job_stream.model) and not job_stream.done:
                if broken and not job_stream.unsure:
                    job_stream.times.losses["subscription"] += 1
                job_stream.lost()
