"""The order in which the watchdog looks at streams: in each round at those where something happens, at those that rest
when their time has come. So ten thousand that wait cost a round nothing."""

from collections import defaultdict

from millstream.gateway.queue.job_stream import JobStream

TICK = 0.25  # seconds between two rounds
REST = 4 * TICK  # seconds: a stream that need not be looked at for longer rests


class TimingWheel:
    """Every stream of a gateway is in here, once."""

    def __init__(self) -> None:
        self._active: set[JobStream] = set()
        self._resting: defaultdict[int, set[JobStream]] = defaultdict(set)  # by the round that looks at them

    def add(self, job_stream: JobStream) -> None:
        self._active.add(job_stream)

    def remove(self, job_stream: JobStream) -> None:
        """Forgets a stream; one that is not there is fine."""
        self._active.discard(job_stream)
        self._wake(job_stream)

    def rouse(self, job_stream: JobStream) -> None:
        """Notes that something happened to a stream that rests."""
        self._wake(job_stream)
        self._active.add(job_stream)

    def due(self, now: float) -> list[JobStream]:
        """Returns the streams whose time has come at `now` (monotonic seconds)."""
        for number in [each for each in self._resting if each * TICK <= now]:
            for job_stream in list(self._resting[number]):
                self.rouse(job_stream)
        return [job_stream for job_stream in self._active if now >= job_stream.look_at]

    def looked(self, job_stream: JobStream, now: float) -> None:
        """Notes that a stream was looked at, and is to be again at its `look_at`."""
        if job_stream.look_at - now > REST and job_stream in self._active:
            self._active.discard(job_stream)
            job_stream.resting = int(job_stream.look_at / TICK) + 1
            self._resting[job_stream.resting].add(job_stream)

    def _wake(self, job_stream: JobStream) -> None:
        if number := job_stream.resting:
            job_stream.resting = 0
            self._resting[number].discard(job_stream)
            if not self._resting[number]:
                del self._resting[number]
