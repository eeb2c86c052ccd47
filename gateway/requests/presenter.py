"""The interface by which a stream presents its chunks, whichever API it speaks."""

from collections import defaultdict
from typing import Protocol

from millstream.common.chunk import Chunk, Usage
from millstream.common.errors import MillstreamError
from millstream.gateway.connection.framing import Framing
from millstream.gateway.requests.accumulator import Accumulator


class Presenter(Protocol):
    """One request's stream. `place` is the SSE id to write with an event; results are whole events, ready to send."""

    framing: Framing
    needs_history: bool  # a resumed stream must be folded from its beginning, not only from where it goes on

    def event(self, choice: int, chunk: Chunk, place: bytes) -> bytes:
        """Returns the chunk's event, or nothing if there is nothing yet to read."""
        ...

    def closing(self, usages: list[Usage] | None, place: bytes) -> bytes:
        """Returns what ends a stream that went well. `usages` (one per job) is None if the client has had it before."""
        ...

    def failure(self, error: MillstreamError, place: bytes) -> bytes:
        """Returns what ends a stream that failed."""
        ...


class RememberedStream:
    """A stream that remembers what it has said, by choice."""

    needs_history = True

    def __init__(self, inner: Presenter) -> None:
        self.framing = inner.framing
        self._inner = inner
        self.said: dict[int, Accumulator] = defaultdict(Accumulator)

    def event(self, choice: int, chunk: Chunk, place: bytes) -> bytes:
        self.said[choice].add(chunk)
        return self._inner.event(choice, chunk, place)

    def closing(self, usages: list[Usage] | None, place: bytes) -> bytes:
        return self._inner.closing(usages, place)

    def failure(self, error: MillstreamError, place: bytes) -> bytes:
        return self._inner.failure(error, place)
