"""The pause before another try."""

import asyncio
import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Seconds between tries: doubling from `first` up to `most`, each shortened by a random part (jitter), so that
    many processes do not come back in step. `most` is small by default: after a Redis restart leases must be renewed
    within its grace."""

    first: float = 0.05
    most: float = 0.5
    next: float = field(init=False)

    def __post_init__(self) -> None:
        self.next = self.first

    def take(self) -> float:
        """Returns the pause for now; the next one is up to twice as long."""
        pause, self.next = self.next, min(self.next * 2, self.most)
        return pause * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begins with short pauses again, after things went well for a while."""
        self.next = self.first

    async def sleep(self) -> None:
        await asyncio.sleep(self.take())
