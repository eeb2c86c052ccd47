"""A finished span as our code makes it, without any library: what is exported, and what tests read."""

from typing import Literal, Protocol

import msgspec

SpanKind = Literal["server", "internal", "consumer"]
AttributeValue = str | int | float | bool | list[str]


class SpanRecord(msgspec.Struct, frozen=True):
    """One span. Times are seconds since the epoch; `error` says why it failed, empty if it did not; `links` are ids of
    spans of the same trace."""

    name: str
    kind: SpanKind
    trace_id: str
    span_id: str
    parent_id: str  # empty: it is the first of its trace
    start: float
    end: float
    attributes: dict[str, AttributeValue] = {}
    error: str = ""
    links: tuple[str, ...] = ()


class SpanWriter(Protocol):
    """The interface of what takes finished spans. Never blocks, never raises."""

    def write(self, span: SpanRecord) -> None: ...
