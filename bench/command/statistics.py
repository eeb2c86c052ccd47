"""The times that one request's answer took, and all of them together."""

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


def _gaps() -> "array[float]":
    return array("d")


@dataclass(slots=True)
class AnswerTimes:
    """Moments are seconds of `time.perf_counter`. Events that arrive in one read have no gap between them."""

    start: float
    first: float | None = None  # the first event with text
    end: float | None = None
    status: int = 0
    tokens: int = 0  # as the server counts them; events where it does not
    events: int = 0
    gaps: "array[float]" = field(default_factory=_gaps)  # seconds between events with text
    error: str = ""
    _last: float = 0.0

    def begin(self, now: float) -> None:
        """Notes the first text."""
        self.first = self._last = now
        self.events = 1

    def note(self, now: float, events: int) -> None:
        """Notes more text."""
        self.gaps.append(now - self._last)
        self.gaps.extend([0.0] * (events - 1))
        self.events += events
        self._last = now

    @property
    def count(self) -> int:
        """Returns the number of tokens."""
        return self.tokens or self.events


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of times, in milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        """Returns the spread of the values; NaN where there are none."""
        ordered = sorted(seconds)
        return cls(*(round(quantile(ordered, q) * 1000, 3) for q in (0.5, 0.9, 0.99, 1.0)))


def quantile(ordered: Sequence[float], q: float) -> float:
    """Returns the smallest value that is not below the share `q` of all."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Figures:
    """A run: `seconds` from the first request to the last answer."""

    requests: int
    errors: dict[str, int]
    seconds: float
    tokens: int
    requests_per_second: float
    tokens_per_second: float
    first_token_ms: Spread
    between_tokens_ms: Spread
    whole_ms: Spread


def summed(answers: Sequence[AnswerTimes]) -> Figures:
    """Returns the figures of a run; only answers that went well have latencies."""
    good = [answer for answer in answers if not answer.error]
    errors = Counter(answer.error for answer in answers if answer.error)
    ends = [answer.end or answer.start for answer in answers]
    seconds = max(ends) - min(answer.start for answer in answers) if answers else math.nan
    tokens = sum(answer.count for answer in answers)
    return Figures(
        requests=len(answers),
        errors=dict(errors),
        seconds=round(seconds, 3),
        tokens=tokens,
        requests_per_second=round(len(good) / seconds, 2) if seconds else math.nan,
        tokens_per_second=round(tokens / seconds, 1) if seconds else math.nan,
        first_token_ms=Spread.of([answer.first - answer.start for answer in good if answer.first is not None]),
        between_tokens_ms=Spread.of([gap for answer in good for gap in answer.gaps]),
        whole_ms=Spread.of([answer.end - answer.start for answer in good if answer.end is not None]),
    )
