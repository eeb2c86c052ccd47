"""Spans kept for a test to look at."""

from dataclasses import dataclass, field

from millstream.common.tracing.span import SpanRecord


@dataclass
class CollectedSpans:
    """Implements `SpanWriter`."""

    spans: list[SpanRecord] = field(default_factory=list)

    def write(self, span: SpanRecord) -> None:
        self.spans.append(span)

    def told(self, attribute: str = "millstream.outcome") -> list[tuple[str, object]]:
        """Returns the names of the spans, each with one of its attributes."""
        return [(span.name, span.attributes.get(attribute)) for span in self.spans]
