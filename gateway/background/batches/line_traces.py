"""The traces of a batch's lines. Each line has a trace of its own, whose id follows from its place: whoever goes on
with the batch after a background process has died goes on with the same traces."""

from dataclasses import dataclass

from millstream.common.tracing.context import derived
from millstream.common.tracing.span import SpanWriter
from millstream.gateway.services.request_trace import RequestTrace


@dataclass(frozen=True, slots=True)
class LineTraces:
    """Makes and writes the spans of one batch's lines; `writer` is None while nothing is traced."""

    batch: str
    ratio: float
    writer: SpanWriter | None

    def of(self, index: int) -> RequestTrace | None:
        """Returns the trace of a line; None while nothing is traced."""
        return RequestTrace(derived(f"{self.batch}:{index}", self.ratio)) if self.writer is not None else None

    def write(self, trace: RequestTrace | None, index: int, status: int) -> None:
        """Writes the span of a line that is answered."""
        if trace is None or self.writer is None:
            return
        about = {"millstream.batch.id": self.batch, "millstream.batch.line": index}
        if (span := trace.span("internal", "batch line", about, status)) is not None:
            self.writer.write(span)
