"""The one module that knows OpenTelemetry: our spans as its own, sent over OTLP/HTTP."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from millstream.common.tracing.sender import Send
from millstream.common.tracing.span import SpanRecord

KINDS = {"server": SpanKind.SERVER, "internal": SpanKind.INTERNAL, "consumer": SpanKind.CONSUMER}
NANOSECONDS = 1_000_000_000


def over_http(receiver: str, about: Mapping[str, str]) -> Send:
    """Returns what sends spans to the receiver. `about`: the attributes of the process. A receiver that is busy is
    asked again for as long as OTEL_EXPORTER_OTLP_TIMEOUT says (10 seconds)."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # the sender tells when nothing can be sent
    return sending(OTLPSpanExporter(endpoint=receiver), about)


def sending(exporter: SpanExporter, about: Mapping[str, str]) -> Send:
    """Returns what hands spans to an exporter."""
    resource = Resource.create(dict(about))
    scope = InstrumentationScope("millstream", about.get("service.version", ""))

    def send(spans: Sequence[SpanRecord]) -> bool:
        return exporter.export([as_span(span, resource, scope) for span in spans]) is SpanExportResult.SUCCESS

    return send


def as_span(span: SpanRecord, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    """Returns a span as OpenTelemetry has it."""
    attributes: dict[str, Any] = dict(span.attributes)
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace_id, span.span_id),
        parent=_context(span.trace_id, span.parent_id, remote=True) if span.parent_id else None,
        resource=resource,
        attributes=attributes,
        links=[Link(_context(span.trace_id, linked)) for linked in span.links],
        kind=KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
        start_time=int(span.start * NANOSECONDS),
        end_time=int(span.end * NANOSECONDS),
        instrumentation_scope=scope,
    )


def _context(trace_id: str, span_id: str, *, remote: bool = False) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(TraceFlags.SAMPLED))
