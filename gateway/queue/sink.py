"""The way of a followed job's chunks: they are pushed into a sink as they come, and nobody asks for them."""

from collections.abc import Callable
from typing import Protocol

from millstream.common.chunk import Chunk, Seq

LoggedChunk = tuple[Seq, Chunk]


class ChunkSink(Protocol):
    """Takes the chunks of one job. It is called by the one reader of all streams, so it does not wait. What it raises
    ends the following of this job, and of no other."""

    def put(self, chunks: list[LoggedChunk]) -> bool:
        """Takes the next chunks (at least one, in order, without holes or repeats) and tells whether it has. One that
        has not, because it is full, is given them again after `drained`, from the log. The very first are taken."""
        ...

    def show_life(self) -> None:
        """Hears that there is nothing new for a keep-alive interval, or another place in the queue."""
        ...

    async def drained(self) -> None:
        """Returns when it takes chunks, which is at once if it is not full."""
        ...


class CallbackSink:
    """A `ChunkSink` that hands each chunk to a function and is never full."""

    def __init__(self, take: Callable[[Chunk], object]) -> None:
        self.begun = False  # there has been a chunk
        self._take = take

    def put(self, chunks: list[LoggedChunk]) -> bool:
        self.begun = True
        for _, chunk in chunks:
            self._take(chunk)
        return True

    def show_life(self) -> None:
        """Does nothing: nobody looks before the end."""

    async def drained(self) -> None:
        """Returns at once."""
