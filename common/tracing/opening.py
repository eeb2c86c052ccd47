"""Traces on or off, as a process's settings say."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.util import find_spec

import structlog

from millstream.common.tracing.sender import SpanSender
from millstream.common.tracing.settings import TraceSettings, receiver_of, service_name

PACKAGE = "opentelemetry.exporter.otlp.proto.http"
log = structlog.stdlib.get_logger(part="traces")


def traced(settings: TraceSettings) -> bool:
    """Tells whether this process writes spans. Raises `ValueError` if it is told to and cannot."""
    if not receiver_of(settings):
        return False
    if _installed():
        return True
    if settings.otlp_endpoint:
        raise ValueError(
            "--otlp-endpoint (MILLSTREAM_OTLP_ENDPOINT) needs OpenTelemetry: pip install 'millstream[otel]'."
        )
    return False


def _installed() -> bool:
    try:
        return find_spec(PACKAGE) is not None
    except ImportError:  # the package above it is missing
        return False


@asynccontextmanager
async def traces(settings: TraceSettings, process: str, instance: str) -> AsyncGenerator[SpanSender | None]:
    """Yields what takes the spans of this process, None while nothing is traced. Leaving it sends what is left, for a
    few seconds at most. Raises `ValueError` as `traced` does."""
    if not traced(settings):
        if receiver_of(settings):
            log.warning("not_traced", reason="OpenTelemetry is not installed: pip install 'millstream[otel]'")
        yield None
        return
    from millstream.common.tracing.opentelemetry import over_http  # here: it is an extra, and slow to import

    about = {"service.name": service_name(process), "service.instance.id": instance}
    sender = SpanSender(over_http(receiver_of(settings), {**about, "service.version": version("millstream")}))
    log.info("traced", ratio=settings.trace_ratio)
    try:
        yield sender
    finally:
        await asyncio.to_thread(sender.close)
