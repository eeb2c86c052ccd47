"""Traces: which one a request belongs to, the spans of its jobs, and their export with OpenTelemetry."""
