"""The span of one request, filled in while it is answered."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from millstream.common.chunk import Usage
from millstream.common.job import JobId, JobRequest
from millstream.common.tracing.attempts import about_request
from millstream.common.tracing.context import TraceContext
from millstream.common.tracing.span import AttributeValue, SpanKind, SpanRecord

STATE = "trace"  # where it lies in the ASGI scope's state
FIRST_FAULT = 500  # a status from here on is an error of ours


class RequestTrace:
    """One request's span. It is written only if the request got as far as to be read: what is refused before that, for
    want of a key, fills no trace."""

    def __init__(self, context: TraceContext, parent_id: str = "") -> None:
        self.context = context
        self._parent_id = parent_id
        self._name = ""
        self._began = time.time()
        self._read = False
        self._error = ""
        self._attributes: dict[str, AttributeValue] = {}

    def begin(self) -> str:
        """Notes that the request is read; returns the traceparent of its jobs."""
        self._read = True
        return self.context.traceparent

    def asks(self, model: str, jobs: Sequence[tuple[JobId, JobRequest]], *, stream: bool) -> None:
        """Notes what is asked for."""
        self._attributes |= about_request(model, jobs[0][1])
        self._attributes["gen_ai.request.stream"] = stream
        told = self._attributes
        self._name = f"{told['gen_ai.operation.name']} {told['gen_ai.request.model']}"

    def follows(self, request: str, *, earlier: bool) -> None:
        """Notes whose jobs are followed: the request's own, or those of an earlier one."""
        self._attributes["gen_ai.response.id"] = request
        if earlier:
            self._attributes["millstream.resumed"] = True

    def used(self, usage: Usage) -> None:
        """Notes the tokens of a whole answer."""
        self._attributes["gen_ai.usage.input_tokens"] = usage.prompt
        self._attributes["gen_ai.usage.output_tokens"] = usage.completion

    def failed(self, code: str) -> None:
        """Notes that the answer failed, perhaps after its status had been sent."""
        self._error = code

    def span(self, kind: SpanKind, name: str, about: Mapping[str, AttributeValue], status: int) -> SpanRecord | None:
        """Returns the span of the request, which was answered with `status`; None if it is not to be written. `name`:
        what it is called if nobody knows what was asked for."""
        if not (self._read and self.context.sampled):
            return None
        told: dict[str, AttributeValue] = {"http.response.status_code": status, **about, **self._attributes}
        error = self._error or (str(status) if status >= FIRST_FAULT else "")
        return SpanRecord(
            name=self._name or name,
            kind=kind,
            trace_id=self.context.trace_id,
            span_id=self.context.span_id,
            parent_id=self._parent_id,
            start=self._began,
            end=time.time(),
            attributes={**told, "error.type": error} if error else told,
            error=error,
        )


def trace_of(scope: Mapping[str, Any]) -> RequestTrace | None:
    """Returns the trace of a request; None if it has none."""
    state: Mapping[str, Any] = scope.get("state") or {}
    return state.get(STATE)
