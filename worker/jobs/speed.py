"""The speed of this worker, measured only while there is work."""

from dataclasses import dataclass, field
from time import monotonic

SMOOTHING = 0.2  # weight of the newest measurement
LONGEST_GAP = 60.0  # seconds: a longer time between two beats says nothing about speed


@dataclass(slots=True)
class SpeedMeter:
    """`tokens` counts all tokens made, `wasted` those made for jobs that nobody wanted any more,
    `continued` the answers gone on with that another lease began. `speed` is tokens/s of
    one sequence, `job_seconds` a job's time from claim to end; both are smoothed, and 0 until measured. Whole jobs tell
    the speed best, what a beat sees depends on when it falls: beats tell it only until the first job has ended."""

    tokens: int = 0
    wasted: int = 0
    continued: int = 0
    speed: float = 0.0
    job_seconds: float = 0.0
    _by_jobs: bool = False
    _since: float = field(default_factory=monotonic)
    _counted: int = 0

    def measure(self, running: int) -> None:
        """Call at each beat; `running` is how many sequences run now."""
        now, made = monotonic(), self.tokens - self._counted
        elapsed, self._since, self._counted = now - self._since, now, self.tokens
        if running and made and not self._by_jobs and 0 < elapsed < LONGEST_GAP:
            self.speed = _smooth(self.speed, made / elapsed / running)

    def job_done(self, seconds: float, tokens: int = 0) -> None:
        """Counts a job that ended, was held for so long and made so many tokens here."""
        self.job_seconds = _smooth(self.job_seconds, seconds)
        if tokens and seconds > 0:
            self.speed = _smooth(self.speed if self._by_jobs else 0.0, tokens / seconds)
            self._by_jobs = True


def _smooth(old: float, new: float) -> float:
    return new if not old else (1 - SMOOTHING) * old + SMOOTHING * new
