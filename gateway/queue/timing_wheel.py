"""Which streams the watchdog looks at in which round: those where something happens in each, those that rest when their
time has come. So ten thousand that wait cost a round nothing."""

from collections import defaultdict

from millstream.gateway.queue.job_stream import Follower

TICK = 0.25  # seconds between two rounds
REST = 4 * TICK  # seconds: a stream that need not be looked at for longer rests


class Rounds:
    """Every stream of a gateway is in here, once."""

    def __init__(self) -> None:
        self._active: set[Follower] = set()
        self._resting: defaultdict[int, set[Follower]] = defaultdict(set)  # by the round that looks at them

    def add(self, follower: Follower) -> None:
        self._active.add(follower)

    def remove(self, follower: Follower) -> None:
        """Forget a stream; one that is not there is fine."""
        self._active.discard(follower)
        self._wake(follower)

    def rouse(self, follower: Follower) -> None:
        """Something happened to a stream that rests."""
        self._wake(follower)
        self._active.add(follower)

    def due(self, now: float) -> list[Follower]:
        """Whose time has come at `now` (monotonic seconds)."""
        for number in [each for each in self._resting if each * TICK <= now]:
            for follower in list(self._resting[number]):
                self.rouse(follower)
        return [follower for follower in self._active if now >= follower.look_at]

    def looked(self, follower: Follower, now: float) -> None:
        """It was looked at, and is to be again at its `look_at`."""
        if follower.look_at - now > REST and follower in self._active:
            self._active.discard(follower)
            follower.resting = int(follower.look_at / TICK) + 1
            self._resting[follower.resting].add(follower)

    def _wake(self, follower: Follower) -> None:
        if number := follower.resting:
            follower.resting = 0
            self._resting[number].discard(follower)
            if not self._resting[number]:
                del self._resting[number]
