"""The worker's composition root: settings in, models loaded, services run, an exit status out."""

import asyncio
import sys

import structlog

from millstream.common.broker.connection.broker import COMMAND_TIMEOUT
from millstream.common.broker.connection.opening import open_broker
from millstream.common.errors import MillstreamError
from millstream.common.job import WorkerId
from millstream.common.process import loop
from millstream.common.process.identity import incarnation
from millstream.common.process.open_files import raise_open_files
from millstream.common.process.stopping import on_stop_signals
from millstream.common.process.tasks import START_ANEW, LoopEnded, leaves, tell_why_it_ends
from millstream.common.telemetry import configure
from millstream.common.tracing.opening import traced, traces
from millstream.worker.service import registry as build
from millstream.worker.service.models import WorkerModels
from millstream.worker.service.service import EngineGone
from millstream.worker.settings import WorkerSettings

CANNOT_LOAD = 2  # exit status: the same settings will not do better
ENGINE_GONE = START_ANEW

log = structlog.stdlib.get_logger(part="worker")


def serve(settings: WorkerSettings) -> int:
    """Runs one worker until SIGTERM or SIGINT; returns the exit status."""
    worker = WorkerId(incarnation("worker"))
    configure(settings.log_format, settings.log_level, {"worker": worker})
    raise_open_files()
    if (followed := build.follow(settings)) is not None:
        return followed
    try:
        traced(settings)
    except ValueError as error:
        log.error("cannot_start", error=str(error))
        return CANNOT_LOAD
    try:
        status = loop.run(_run(settings, worker))
    except MillstreamError as error:
        log.error("cannot_start", error=error.message, code=error.code)
        return CANNOT_LOAD
    if status == ENGINE_GONE:  # a hung engine's thread cannot be joined
        sys.stdout.flush()
        sys.stderr.flush()
        build.leave_at_once(status)
    return status


async def _run(settings: WorkerSettings, worker: WorkerId) -> int:
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    offers = build.offers(settings)
    async with (
        traces(settings, "worker", worker) as spans,
        open_broker(settings, min(COMMAND_TIMEOUT, settings.lease / 3)) as broker,
    ):
        worker_models = WorkerModels(broker, worker, settings, offers, spans)
        if not await worker_models.load_residents(stop):
            build.leave_at_once(0)  # loading cannot be interrupted, and nothing is held yet
        loop.keep_what_is_loaded()
        status = 0
        try:
            await worker_models.serve(stop)
        except* EngineGone as group:
            status = ENGINE_GONE
            for error in leaves(group):
                log.error("engine_gone", error=str(error))
        except* (MillstreamError, LoopEnded) as group:
            status = tell_why_it_ends(log, group)
    if worker_models.loading:
        build.leave_at_once(status)
    return status
