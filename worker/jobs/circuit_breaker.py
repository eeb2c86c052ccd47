"""The circuit breaker that decides if an engine gets more jobs: several errors in a row make it sick for a while, ever
longer."""

from dataclasses import dataclass

TOLERATED = 3  # engine errors in a row, without one job that ended well: a prompt may be at fault, three hardly are
SHORTEST, LONGEST = 2.0, 60.0  # seconds out of rotation; doubles with each spell


@dataclass(slots=True)
class CircuitBreaker:
    """Pure; `now` is monotonic seconds. After a spell one more error is enough for the next."""

    errors: int = 0
    spells: int = 0
    until: float = 0.0

    def failed(self, now: float) -> None:
        """A step of the engine failed; what is wrong with a request never counts."""
        self.errors += 1
        if self.errors >= TOLERATED and not self.sick(now):
            self.until = now + min(SHORTEST * 2**self.spells, LONGEST)
            self.spells += 1
            self.errors = TOLERATED - 1

    def succeeded(self) -> None:
        """Counts a job that ended well."""
        self.errors = self.spells = 0

    def sick(self, now: float) -> bool:
        """Tells whether it should be given nothing now."""
        return now < self.until
