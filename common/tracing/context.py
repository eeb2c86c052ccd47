"""The place of a span in a trace, as W3C's `traceparent` header tells it: `00-<trace>-<span>-<flags>`, always 55
characters."""

import random
import re
from hashlib import blake2b
from typing import Self

import msgspec

LENGTH = 55  # characters of a traceparent; later versions may append to it, after a hyphen
FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
FORBIDDEN_VERSION = "ff"
SAMPLED = 1  # the flag that says that spans of this trace are recorded
RATIO_BITS = (1 << 64) - 1  # the part of a trace's id that its sampling goes by, as OpenTelemetry's own samplers do


class TraceContext(msgspec.Struct, frozen=True):
    """One span of one trace: 32 and 16 hexadecimal digits, and whether the trace is recorded."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """Returns the header that makes this span the parent of what follows."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"

    @classmethod
    def of(cls, traceparent: str) -> Self | None:
        """Returns the span that a header names; None for what is no such header."""
        told = FORM.match(traceparent[:LENGTH])
        if told is None or (len(traceparent) > LENGTH and (told[1] == "00" or traceparent[LENGTH] != "-")):
            return None
        version, trace_id, span_id, flags = told.groups()
        if version == FORBIDDEN_VERSION or not int(trace_id, 16) or not int(span_id, 16):
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & SAMPLED))


def begin(parent: TraceContext | None, ratio: float) -> TraceContext:
    """Returns a new span: a child of `parent`, recorded if its trace is; without a parent the first of a new trace,
    which is recorded with a probability of `ratio`."""
    span_id = f"{random.getrandbits(64) or 1:016x}"
    if parent is not None:
        return TraceContext(parent.trace_id, span_id, parent.sampled)
    trace_id = f"{random.getrandbits(128) or 1:032x}"
    return TraceContext(trace_id, span_id, within(trace_id, ratio))


def derived(name: str, ratio: float) -> TraceContext:
    """Returns the first span of the trace that follows from a name: the same in whichever process."""
    trace_id = blake2b(name.encode(), digest_size=16).hexdigest()
    return TraceContext(trace_id, derived_span(trace_id, name), within(trace_id, ratio))


def derived_span(trace_id: str, *names: str) -> str:
    """Returns the id of the span that follows from names within a trace: the same whoever writes the span."""
    return blake2b("\n".join((trace_id, *names)).encode(), digest_size=8).hexdigest()


def within(trace_id: str, ratio: float) -> bool:
    """Tells whether a trace is among the share `ratio` of those that are recorded."""
    return int(trace_id, 16) & RATIO_BITS < ratio * (RATIO_BITS + 1)
