"""The work of one background process on a batch when its turn comes, whatever state the batch is in."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import cast

import msgspec
import structlog

from millstream.common.broker.models.directory import ModelInfo
from millstream.common.broker.records.batches import OVER, Batches
from millstream.common.errors import BadRequest, Forbidden, NotFound
from millstream.common.job import JobId, ModelName
from millstream.gateway.apis.responses.service import ResponseService
from millstream.gateway.apis.responses.store import StoredResponses
from millstream.gateway.background.batches.answering import LineRunner
from millstream.gateway.background.batches.batch_key import REVOKED, BatchKey
from millstream.gateway.background.batches.endpoints import LineReader
from millstream.gateway.background.batches.finalising import Ending, Finalising
from millstream.gateway.background.batches.lease import BatchLease, LeaseLost, leased
from millstream.gateway.background.batches.line_traces import LineTraces
from millstream.gateway.background.batches.lines import raw_lines
from millstream.gateway.background.batches.parts import Parts
from millstream.gateway.background.batches.running import WINDOW, Slice
from millstream.gateway.background.batches.validating import Validation
from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.records.batches import Batch
from millstream.gateway.records.files.catalogue import Catalogue
from millstream.gateway.records.files.storage import Storage
from millstream.gateway.records.store import RecordStore
from millstream.gateway.services.aliases import Aliases
from millstream.gateway.services.cluster import ClusterServices

CANCEL_AT_ONCE = 100  # jobs stopped in one call
log = structlog.stdlib.get_logger(part="batches")
BatchEnded = Callable[[Batch], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class BackgroundContext:
    """The connections and settings with which a background process works."""

    settings: BackgroundSettings
    cluster: ClusterServices
    store: RecordStore
    storage: Storage
    batches: Batches
    aliases: Aliases
    owner: str  # this process's name on leases


class BatchWorker:
    """Works on one batch. `ended` is told of every batch that is over."""

    def __init__(self, context: BackgroundContext, batch: str, ended: BatchEnded) -> None:
        self._context = context
        self._id = batch
        self._ended = ended
        self._owner = f"{context.owner}-{secrets.token_hex(4)}"  # two turns in one process are two owners

    async def work(self) -> bool:
        """Does a slice of work and tells whether there is more to do."""
        context = self._context
        try:
            async with leased(context.batches, self._id, self._owner) as lease:
                if lease is None:
                    await self._forget_if_gone()
                    return False
                return await self._turn(lease)
        except* LeaseLost:
            log.info("batch_taken_over", batch=self._id)
        return False

    async def _forget_if_gone(self) -> None:
        if not await self._context.batches.state(self._id):
            await self._context.batches.forget(self._id)

    async def _batch(self) -> Batch:
        return Batch(self._id, await self._context.batches.state(self._id))

    async def _turn(self, lease: BatchLease) -> bool:
        """Tells whether there is more to do."""
        batch = await self._batch()
        key = BatchKey(batch, self._context.cluster.find_key)
        match batch.status:
            case "validating" | "in_progress" if await self._revoked(batch, key):
                pass
            case "validating":
                await self._validate(batch, key, lease)
            case "in_progress":
                await self._run(batch, key, lease)
            case "cancelling":
                await self._stop_jobs(batch)
                await self._finalise(batch, lease, "cancelled")
            case "finalizing":
                await self._finalise(batch, lease, cast(Ending, batch.state.get("ending") or "completed"))
            case _:
                pass
        batch = await self._batch()
        if batch.status in OVER:
            log.info("batch_over", batch=batch.id, status=batch.status)
            await self._ended(batch)
            await self._context.batches.forget(batch.id)
            return False
        return True

    def _catalogue(self, batch: Batch) -> Catalogue:
        return Catalogue(self._context.storage, self._context.store, batch.tenant)

    async def _revoked(self, batch: Batch, key: BatchKey) -> bool:
        """Tells whether the batch's key is there no more: the batch is stopped as if it had been cancelled, and says
        why."""
        await key.look()
        if key.revoked:
            fields = {"errors": msgspec.json.encode([REVOKED]).decode()}
            await self._context.batches.move(batch.id, ("validating", "in_progress"), "cancelling", fields)
        return key.revoked

    async def _answering(self, batch: Batch, key: BatchKey) -> LineRunner:
        context, model = self._context, ModelName(batch.state["model"])
        listed = await context.cluster.directory.models()
        # With all its workers away it may be listed no more; that it sees was checked before the first line ran.
        away = all(info.name != model for info in listed)
        seeing = frozenset((model,)) if away else _seeing(listed)
        reader = LineReader(batch.endpoint, key.now, context.settings, lambda _: model, seeing)
        turns = StoredResponses(context.store, batch.tenant, context.settings.stored_ttl)
        queue = context.cluster.queue
        response_service = ResponseService(queue, turns, batch.tenant)
        traces = LineTraces(batch.id, context.settings.trace_ratio, context.cluster.spans)
        return LineRunner(batch, reader, queue, response_service, context.settings.batch_line_timeout, traces)

    async def _validate(self, batch: Batch, key: BatchKey, lease: BatchLease) -> None:
        context, catalogue = self._context, self._catalogue(batch)
        listed = await context.cluster.directory.models()
        known = frozenset(model.name for model in listed)
        resolve = partial(context.aliases.resolve, known=known)
        reader = LineReader(batch.endpoint, key.now, context.settings, resolve, _seeing(listed))
        validation = Validation(reader, known, context.settings.batch_lines)
        try:
            found = await validation.check(catalogue.read(await catalogue.get(batch.input_file)))
        except NotFound as error:
            await context.batches.move(batch.id, ("validating",), "failed", _unreadable(error), lease.grant)
            return
        fields = {"total": found.lines, "model": found.model, "completed": 0, "failed": 0}
        if found.faults:
            fields |= {"total": 0, "errors": msgspec.json.encode(found.faults).decode()}
            await context.batches.move(batch.id, ("validating",), "failed", fields, lease.grant)
        else:
            await context.batches.move(batch.id, ("validating",), "in_progress", fields, lease.grant)

    async def _run(self, batch: Batch, key: BatchKey, lease: BatchLease) -> None:
        context, catalogue = self._context, self._catalogue(batch)
        parts = Parts(context.storage, context.batches, batch.id)
        work = Slice(batch, context.batches, lease, await self._answering(batch, key), parts)
        try:
            file = await catalogue.get(batch.input_file)
            blocks = catalogue.read(file, batch.offset)
            lines = raw_lines(blocks, batch.offset, context.settings.max_body_bytes)
            most, seconds = context.settings.batch_in_flight, context.settings.slice_seconds
            done = await work.work(lines, self._look(batch, key), most, seconds)
        except (BadRequest, ExceptionGroup) as error:
            unreadable = _bad_request(error)  # the lines' own faults are their answers
            if unreadable is None:
                raise
            fields = {"ending": "failed", **_unreadable(unreadable)}  # what was answered is kept
            await context.batches.move(batch.id, ("in_progress",), "finalizing", fields, lease.grant)
            return
        if done:
            await context.batches.move(batch.id, ("in_progress",), "finalizing", {}, lease.grant)
        elif lease.now >= batch.expires:
            await self._stop_jobs(await self._batch())
            await context.batches.move(batch.id, ("in_progress",), "finalizing", {"ending": "expired"}, lease.grant)

    def _look(self, batch: Batch, key: BatchKey) -> Callable[[], Awaitable[ModelInfo | None]]:
        async def look() -> ModelInfo | None:
            await self._revoked(batch, key)
            models = await self._context.cluster.directory.models()
            return next((model for model in models if model.name == batch.state["model"]), None)

        return look

    async def _stop_jobs(self, batch: Batch) -> None:
        """Stops the jobs of lines that may be on the queue though nobody follows them any more: their ids follow from
        their place."""
        context = self._context
        if not batch.total:
            return
        jobs: list[JobId] = []
        try:
            async for some in self._open_jobs(batch):
                jobs += some
        except BadRequest as error:
            log.info("jobs_not_stopped", batch=batch.id, error=error.message)
        model = ModelName(batch.state["model"])
        for at in range(0, len(jobs), CANCEL_AT_ONCE):
            await context.cluster.queue.cancel(model, jobs[at : at + CANCEL_AT_ONCE], tenant=batch.tenant)

    async def _open_jobs(self, batch: Batch) -> AsyncIterator[list[JobId]]:
        """Yields each line's jobs that may be on the queue. Raises `NotFound` for an input that has been deleted."""
        answering, catalogue = await self._answering(batch, BatchKey(batch, None)), self._catalogue(batch)
        index = batch.flushed
        blocks = catalogue.read(await catalogue.get(batch.input_file), batch.offset)
        async for raw in raw_lines(blocks, batch.offset, self._context.settings.max_body_bytes):
            try:
                yield (await answering.order(index, raw.text)).id.jobs()
            except (BadRequest, Forbidden) as error:  # it was refused, so it never ran
                log.debug("line_not_stopped", batch=batch.id, line=index, error=error.message)
            index += 1
            if index >= batch.flushed + WINDOW:
                return
            await asyncio.sleep(0)  # thousands of lines: the lease must be renewed meanwhile

    async def _finalise(self, batch: Batch, lease: BatchLease, ending: Ending) -> None:
        context = self._context
        finalising = Finalising(
            batch, context.batches, context.storage, self._catalogue(batch), context.settings.file_ttl
        )
        await finalising.finish(lease, ending)


def _seeing(listed: Iterable[ModelInfo]) -> frozenset[str]:
    """Returns the models that read images."""
    return frozenset(info.name for info in listed if "images" in info.capabilities)


def _unreadable(error: BadRequest) -> dict[str, str]:
    """Returns the batch's `errors`, when its input cannot be read."""
    code = "input_file_gone" if isinstance(error, NotFound) else "invalid_input_file"
    faults = [{"code": code, "message": error.message, "param": "input_file_id", "line": None}]
    return {"errors": msgspec.json.encode(faults).decode()}


def _bad_request(error: BaseException) -> BadRequest | None:
    """Returns the error, if it is a bad request, alone or in a group of its like."""
    if isinstance(error, BadRequest):
        return error
    if isinstance(error, BaseExceptionGroup):
        group = cast(BaseExceptionGroup[BaseException], error)
        return _bad_request(group.exceptions[0])
    return None
