"""What a stream needs of a presenter, whichever API it speaks."""

from typing import Protocol

from millstream.common.chunk import Chunk, Usage
from millstream.common.errors import MillstreamError
from millstream.gateway.connection.framing import Framing


class Presenter(Protocol):
    """One request's stream. `place` is the SSE id to write with an event; results are whole events, ready to send."""

    framing: Framing
    needs_history: bool  # a resumed stream must be folded from its beginning, not only from where it goes on

    def event(self, choice: int, chunk: Chunk, place: bytes) -> bytes:
        """The chunk's event, or nothing if there is nothing yet to read."""
        ...

    def closing(self, usages: list[Usage] | None, place: bytes) -> bytes:
        """What ends a stream that went well. `usages` (one per job) is None if the client has had it before."""
        ...

    def failure(self, error: MillstreamError, place: bytes) -> bytes:
        """What ends a stream that failed."""
        ...
