"""One line of a batch: submitted, followed to its end, written as a line of the output."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import msgspec
import structlog

from millstream.common.broker.records.batches import LineResult
from millstream.common.errors import BadRequest, Expired, LogExpired, MillstreamError, NotFound, Overloaded, Unavailable
from millstream.common.process.backoff import Backoff
from millstream.gateway.apis.responses.input.items import Item
from millstream.gateway.apis.responses.recall import Recall
from millstream.gateway.apis.responses.service import ResponseService
from millstream.gateway.background.batches.endpoints import LineReader, Prepared
from millstream.gateway.background.batches.line_traces import LineTraces
from millstream.gateway.background.batches.lines import BatchLine, named, parse_line
from millstream.gateway.errors.table import error_object, wire
from millstream.gateway.queue.client import QueueClient
from millstream.gateway.records.batches import Batch
from millstream.gateway.requests.admitted import admit
from millstream.gateway.requests.handler import accumulate_all
from millstream.gateway.requests.prepared import PreparedRequest
from millstream.gateway.services.image_fetcher import ImageFetcher
from millstream.gateway.services.request_trace import RequestTrace

log = structlog.stdlib.get_logger(part="batches")
LONGEST_PAUSE = 5.0  # seconds between two tries to submit


def line_id(batch: str, index: int) -> str:
    """Returns the id of a line's answer, the same whoever writes it."""
    return f"batch_req_{batch.removeprefix('batch_')}{index:06x}"


def _traced(prepared: Prepared, trace: RequestTrace | None) -> Prepared:
    """Returns the line whose jobs belong to its trace."""
    if trace is None:
        return prepared
    submission, traceparent = prepared.order.submission, trace.begin()
    trace.asks(submission.model, submission.jobs, stream=False)
    jobs = [(id, msgspec.structs.replace(request, traceparent=traceparent)) for id, request in submission.jobs]
    return replace(prepared, order=replace(prepared.order, submission=replace(submission, jobs=jobs)))


class LineRunner:
    """The lines of one batch."""

    def __init__(
        self,
        batch: Batch,
        reader: LineReader,
        queue: QueueClient,
        response_service: ResponseService,
        line_timeout: float,
        traces: LineTraces,
    ) -> None:
        self._images = ImageFetcher(reader.settings.image_hosts, reader.settings.max_image_bytes)
        self._traces = traces
        self._batch = batch
        self._reader = reader
        self._queue = queue
        self._response_service = response_service
        self._line_timeout = line_timeout

    async def answer(self, index: int, text: bytes) -> LineResult:
        """Tries until there is an answer or an error that another try would not change. Cancelled, it leaves the jobs
        running; the next call for the same line finds them."""
        line = parse_line(text, self._batch.endpoint)
        trace = self._traces.of(index)
        request, status, answer = await self._answered(index, line, trace)
        self._traces.write(trace, index, status)
        return self._result(index, line, request, status, answer)

    async def _answered(
        self, index: int, line: BatchLine, trace: RequestTrace | None
    ) -> tuple[str, int, dict[str, Any]]:
        """Returns the id of the request, empty if it failed, the status and the body of its answer."""
        try:
            prepared = await self._prepared(line)
            request, body = await self._until_answered(index, _traced(prepared, trace))
            return request, 200, body
        except MillstreamError as error:
            return "", wire(error).status, error_object(error)
        except Exception as error:  # a fault of ours in one line must not hold up the others
            log.error("line_failed", batch=self._batch.id, line=index, exc_info=error)
            fault = MillstreamError("The server had an error while processing this request. Sorry about that!")
            return "", wire(fault).status, error_object(fault)

    async def order(self, index: int, text: bytes) -> PreparedRequest:
        """Returns the line's prepared request as its first try submits it. Raises `BadRequest`."""
        line = parse_line(text, self._batch.endpoint)
        return self._named(self._reader.prepare(line.body, await self._history(line)).order, index, 0)

    async def _prepared(self, line: BatchLine) -> Prepared:
        """Returns the line's request, the images that it names by address fetched. Raises `BadRequest`."""
        history = await self._history(line)
        had = await self._images.fetch(self._reader.images(line.body, history))
        return self._reader.prepare(line.body, history, had)

    async def _history(self, line: BatchLine) -> list[Item]:
        previous = line.body.get("previous_response_id") if self._batch.endpoint == "/v1/responses" else None
        recall = Recall(self._response_service, self._reader.settings.max_body_bytes)
        return await recall.previous(previous) if isinstance(previous, str) else []

    async def _until_answered(self, index: int, prepared: Prepared) -> tuple[str, dict[str, Any]]:
        backoff, attempt = Backoff(most=LONGEST_PAUSE), 0
        while True:
            order = self._named(prepared.order, index, attempt)
            try:
                return await self._try(order, prepared)
            except Overloaded as error:
                await asyncio.sleep(min(error.retry_after or LONGEST_PAUSE, LONGEST_PAUSE))
            except BadRequest as error:
                if not isinstance(error, NotFound | LogExpired):
                    raise
                await backoff.sleep()  # the job has gone with its log: the same id is free for another
            except Unavailable:
                await backoff.sleep()
            except Expired:  # it waited too long; the batch's window is not over, or we would have been cancelled
                attempt += 1

    async def _try(self, order: PreparedRequest, prepared: Prepared) -> tuple[str, dict[str, Any]]:
        admitted = await admit(self._queue, order)
        accumulators = await accumulate_all(self._queue, admitted)
        return admitted.id.text, prepared.whole(admitted.head(), accumulators)

    def _named(self, order: PreparedRequest, index: int, attempt: int) -> PreparedRequest:
        order = named(order, self._batch.id, self._batch.created, index, attempt)
        left = max(1.0, self._batch.expires - time.time())
        timeout = min(left, self._line_timeout)
        submission = replace(order.submission, tier="batch", timeout=timeout, resumable=True, idempotency_key=None)
        return replace(order, submission=submission)

    def _result(self, index: int, line: BatchLine, request: str, status: int, body: dict[str, Any]) -> LineResult:
        response = {"status_code": status, "request_id": request, "body": body}
        told = {"id": line_id(self._batch.id, index), "custom_id": line.custom_id, "response": response, "error": None}
        return LineResult(index, "completed" if status == 200 else "failed", msgspec.json.encode(told))
