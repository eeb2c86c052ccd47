"""Finished spans on their way out: a queue with a bound, and a thread that sends what is in it. Whoever writes a span
never waits; what the queue has no room for is dropped and counted."""

import threading
from collections.abc import Callable, Sequence
from queue import Empty, Full, Queue
from time import monotonic

import structlog

from millstream.common.tracing.span import SpanRecord

MOST_WAITING = 4096  # spans; a receiver that hangs costs no more memory than that
MOST_AT_ONCE = 512  # spans of one request to the receiver
COLLECT = 0.5  # seconds that spans are gathered for one request: what a process may lose that is killed
LAST_WORDS = 3.0  # seconds a process that ends gives to the spans it still has

Send = Callable[[Sequence[SpanRecord]], bool]  # blocks; tells whether the receiver took them
log = structlog.stdlib.get_logger(part="traces")


class SpanSender:
    """Implements `SpanWriter` for one process. `send` is called in a thread of its own."""

    def __init__(self, send: Send, most: int = MOST_WAITING) -> None:
        self._send = send
        self._waiting: Queue[SpanRecord] = Queue(most)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._told_lost: Callable[[int], None] | None = None
        self._failing = False
        self._under_way = 0  # spans that the receiver is being sent just now
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def write(self, span: SpanRecord) -> None:
        """Takes a span; one too many is dropped."""
        try:
            self._waiting.put_nowait(span)
        except Full:
            self._lose(1)

    def tell_lost(self, tell: Callable[[int], None]) -> None:
        """Has `tell` called, from any thread, with the number of spans that were lost."""
        self._told_lost = tell

    def close(self, patience: float = LAST_WORDS) -> None:
        """Sends what waits, within `patience` seconds; the rest is lost. Blocks."""
        self._closing.set()
        self._thread.join(patience)
        if left := self._waiting.qsize() + self._under_way:
            self._lose(left)
        if self.lost:
            log.warning("spans_lost", lost=self.lost)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._closing.wait(COLLECT)
            while batch := self._next():
                self._deliver(batch)

    def _next(self) -> list[SpanRecord]:
        batch: list[SpanRecord] = []
        while len(batch) < MOST_AT_ONCE:
            try:
                batch.append(self._waiting.get_nowait())
            except Empty:
                break
        return batch

    def _deliver(self, batch: Sequence[SpanRecord]) -> None:
        began, self._under_way = monotonic(), len(batch)
        try:
            taken = self._send(batch)
        except Exception as error:  # noqa: BLE001 (whatever a library raises, traces are not worth a process)
            log.debug("spans_not_sent", error=str(error))
            taken = False
        self._under_way = 0
        if not taken:
            self._lose(len(batch))
        if taken == self._failing:  # said once, until it changes
            tell = log.info if taken else log.warning
            tell("traces_sent_again" if taken else "traces_not_sent", seconds=round(monotonic() - began, 1))
        self._failing = not taken

    def _lose(self, count: int) -> None:
        with self._lock:
            self.lost += count
        if self._told_lost is not None:
            self._told_lost(count)
