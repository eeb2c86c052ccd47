"""Traceparents: read by the letter of W3C's recommendation, whoever sends them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.common.tracing.context import LENGTH, TraceContext, begin, derived, derived_span

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-will-be-there-one-day", True),
    ],
)
def test_what_a_client_may_send(text: str, sampled: bool) -> None:
    assert TraceContext.of(text) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
    ],
)
def test_what_is_no_traceparent(text: str) -> None:
    assert TraceContext.of(text) is None


@given(st.text(max_size=200) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,50}"))
def test_nothing_a_client_sends_is_an_error_or_longer_than_a_traceparent(text: str) -> None:
    context = TraceContext.of(text)
    assert context is None or len(context.traceparent) == LENGTH


def test_a_client_that_says_decides_and_the_ratio_does_for_the_others() -> None:
    for sampled in (True, False):
        parent = TraceContext(TRACE, SPAN, sampled)
        child = begin(parent, ratio=0.0 if sampled else 1.0)
        assert (child.trace_id, child.sampled) == (TRACE, sampled)
        assert child.span_id != SPAN
        assert TraceContext.of(child.traceparent) == child
    assert begin(None, 1.0).sampled and not begin(None, 0.0).sampled
    many = [begin(None, 0.5) for _ in range(400)]
    assert 100 < sum(each.sampled for each in many) < 300
    assert len({each.trace_id for each in many}) == 400


def test_what_follows_from_a_name_is_the_same_in_every_process() -> None:
    assert derived("batch_1:0", 1.0) == derived("batch_1:0", 1.0) != derived("batch_1:1", 1.0)
    assert TraceContext.of(derived("batch_1:0", 0.0).traceparent) == derived("batch_1:0", 0.0)
    assert derived_span(TRACE, "a", "b") != derived_span(TRACE, "ab")
