"""Chunks in, bytes of a stream out: the presenter's events with their places, in one write per list of chunks."""

from millstream.common.chunk import NOTHING_YET, Chunk, Seq, Usage
from millstream.common.errors import MillstreamError, from_failure
from millstream.gateway.queue.sink import LoggedChunk
from millstream.gateway.requests.event_id import EventIds
from millstream.gateway.requests.presenter import Presenter

# No blank line ends it: after one, many clients take what went before for an event, though it has no data, as soon as
# the stream has had an id or whatever it held (OpenAI's SDKs for Python and Go, httpx-sse), and fail to read it. So a
# comment is a line at the beginning of the next event, and every reader skips it there.
KEEP_ALIVE = b": keep-alive\n"


class Writer:
    """One request's stream being written. Chunks up to `had` (per choice) are folded but not written again."""

    def __init__(self, presenter: Presenter, event_ids: EventIds, had: list[Seq] | None = None) -> None:
        self._presenter = presenter
        self._event_ids = event_ids
        self._had = had or [NOTHING_YET] * event_ids.request.count
        self._lasts: list[Seq] = list(event_ids.seqs)
        self._usages: list[Usage | None] = [None] * event_ids.request.count
        self.error: MillstreamError | None = None
        self.complete = False  # the end of every choice has been seen
        self.tokens = 0

    def write(self, choice: int, chunks: list[LoggedChunk]) -> bytes:
        """Returns the events of a list of chunks; nothing if there is nothing to read yet. `error` is set by a failed
        job."""
        if len(chunks) == 1:
            return self.event(choice, *chunks[0])
        out: list[bytes] = []
        for seq, chunk in chunks:
            out.append(self.event(choice, seq, chunk))
            if self.error is not None:
                break
        return b"".join(out)

    def event(self, choice: int, seq: Seq, chunk: Chunk) -> bytes:
        """Returns the event of one chunk; nothing if there is nothing to read yet."""
        place = self._event_ids.mark(choice, seq)
        self.tokens += len(chunk.ids)
        if chunk.error is not None:
            return self.fail(from_failure(chunk.error), place)
        event = self._presenter.event(choice, chunk, place)
        if chunk.finish is not None:
            self.settle(choice, seq, chunk)
        return event if seq > self._had[choice] else b""

    def settle(self, choice: int, seq: Seq, chunk: Chunk) -> None:
        """Notes a choice's end."""
        self._lasts[choice] = seq
        self._usages[choice] = chunk.usage or Usage()
        self.complete = None not in self._usages

    @property
    def unsettled(self) -> list[int]:
        """Returns the choices whose end has not been seen."""
        return [choice for choice, usage in enumerate(self._usages) if usage is None]

    @property
    def usages(self) -> list[Usage]:
        """Returns the usages of the choices that ended."""
        return [usage for usage in self._usages if usage is not None]

    def fail(self, error: MillstreamError, place: bytes = b"") -> bytes:
        """Returns the event that ends a failed stream."""
        self.error = error
        return self._presenter.failure(error, place)

    def close(self) -> bytes:
        """Returns what ends a stream that went well."""
        usages = None if self.unsettled else self.usages
        return self._presenter.closing(usages, self._event_ids.end(self._lasts))
