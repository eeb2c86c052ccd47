"""Our spans as OpenTelemetry has them, seen through its own in-memory exporter."""

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from millstream.common.tracing.opentelemetry import sending
from millstream.common.tracing.span import AttributeValue, SpanRecord

TRACE, PARENT, LINKED = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


def test_a_span_is_the_same_on_the_other_side() -> None:
    exporter = InMemorySpanExporter()
    send = sending(exporter, {"service.name": "millstream-worker", "service.version": "1"})
    facts: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "chat",
        "n": 3,
        "gen_ai.response.finish_reasons": ["stop"],
    }
    well = SpanRecord("queue wait", "internal", TRACE, "1" * 16, "", 1.5, 2.0)
    ill = SpanRecord("attempt 2", "consumer", TRACE, "2" * 16, PARENT, 2.0, 3.0, facts, "worker lost", (LINKED,))
    assert send([well, ill])
    first, second = exporter.get_finished_spans()
    assert (first.start_time, first.end_time, first.parent) == (1_500_000_000, 2_000_000_000, None)
    assert (first.kind, first.status.status_code, len(first.links)) == (SpanKind.INTERNAL, StatusCode.UNSET, 0)
    assert first.resource.attributes["service.name"] == "millstream-worker"
    assert second.context is not None and second.parent is not None and second.attributes is not None
    assert f"{second.context.trace_id:032x}" == TRACE and second.context.trace_flags.sampled
    assert (f"{second.context.span_id:016x}", f"{second.parent.span_id:016x}") == ("2" * 16, PARENT)
    assert (second.kind, second.status.description) == (SpanKind.CONSUMER, "worker lost")
    assert [f"{link.context.span_id:016x}" for link in second.links] == [LINKED]
    assert dict(second.attributes) == facts
