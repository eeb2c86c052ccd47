"""One job's times as its stream saw them, noted chunk by chunk for next to nothing and told once, when it is over."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from millstream.common.chunk import Chunk, Seq
from millstream.common.job import ModelName

# How a frame was found missing: a later one came, Redis's log was longer, the subscription broke.
LossSign = Literal["hole", "silence", "subscription"]


@dataclass(slots=True)
class JobTimes:
    """All times are seconds; None where this gateway cannot know, as the job was submitted elsewhere or has not come so
    far. `gaps`: between two chunks of one lease that came by frames, from the first token on; `silences`: between the
    last chunk of a lease and the first of the next; `answer`: from submit to the last chunk."""

    model: ModelName
    tier: str
    wait: float | None = None  # from submit to the chunk that says that a worker accepted the prompt
    first_token: float | None = None  # from submit
    answer: float | None = None
    gaps: list[float] = field(default_factory=list[float])
    silences: list[float] = field(default_factory=list[float])
    losses: Counter[LossSign] = field(default_factory=Counter[LossSign])
    repaired: int = 0  # chunks that were read from the log instead

    def note(self, seq: Seq, chunk: Chunk, since: float) -> None:
        """Notes a chunk that came `since` seconds after the submission."""
        if seq == 1 and chunk.start is not None:
            self.wait = since
        elif seq == 2 and chunk.error is None:
            self.first_token = since
        if chunk.finish is not None:
            self.answer = since


TellTimes = Callable[[JobTimes], None]
