"""Spans on their way out: nobody waits for a receiver, and what is lost is counted."""

import threading
from collections.abc import Sequence

from millstream.common.tracing.sender import MOST_AT_ONCE, SpanSender
from millstream.common.tracing.span import SpanRecord

SPAN = SpanRecord("a", "internal", "1" * 32, "2" * 16, "", 0.0, 1.0)
PATIENCE = 30.0  # seconds; only a safety net


def test_what_was_written_is_sent_before_the_end() -> None:
    got: list[int] = []

    def send(spans: Sequence[SpanRecord]) -> bool:
        got.append(len(spans))
        return True

    sender = SpanSender(send)
    for _ in range(MOST_AT_ONCE + 1):
        sender.write(SPAN)
    sender.close(PATIENCE)
    assert (sum(got), max(got), sender.lost) == (MOST_AT_ONCE + 1, MOST_AT_ONCE, 0)


def test_a_receiver_that_hangs_holds_up_neither_writers_nor_the_end() -> None:
    begun, release = threading.Event(), threading.Event()

    def send(spans: Sequence[SpanRecord]) -> bool:
        begun.set()
        return release.wait(PATIENCE)

    sender = SpanSender(send, most=10)
    told: list[int] = []
    sender.tell_lost(told.append)
    sender.write(SPAN)
    assert begun.wait(PATIENCE)
    for _ in range(15):
        sender.write(SPAN)
    assert (sender.lost, sum(told)) == (5, 5), "the queue has a bound"
    sender.close(patience=0.01)
    assert sender.lost == 5 + 10 + 1, "what waits, and what the receiver may never have taken"
    release.set()


def test_a_receiver_that_refuses_or_a_library_that_raises_loses_spans_and_no_thread() -> None:
    answers = iter([False, ValueError("a bug"), True])
    done = [threading.Event() for _ in range(3)]
    sent = iter(done)

    def send(spans: Sequence[SpanRecord]) -> bool:
        answer = next(answers)
        next(sent).set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    sender = SpanSender(send)
    for each in done:
        sender.write(SPAN)
        assert each.wait(PATIENCE)
    sender.close(PATIENCE)
    assert sender.lost == 2
