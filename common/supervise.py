"""Keep child processes running: start, watch, restart with a growing pause, stop in time."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Seconds to wait before the next restart: doubling from `first` up to `most`."""

    first: float = 0.1
    most: float = 10.0
    next: float = field(init=False)

    def __post_init__(self) -> None:
        self.next = self.first

    def take(self) -> float:
        """The pause for now; the next one is twice as long."""
        pause, self.next = self.next, min(self.next * 2, self.most)
        return pause

    def reset(self) -> None:
        """After a child ran well for a while."""
        self.next = self.first
