"""The worker's composition root: settings in, models loaded, services run, an exit status out."""

import asyncio
import sys

import structlog

from millstream.common.broker.connection.broker import COMMAND_TIMEOUT, Broker
from millstream.common.errors import MillstreamError
from millstream.common.job import WorkerId
from millstream.common.process import loop
from millstream.common.process.identity import incarnation
from millstream.common.process.stopping import on_stop_signals
from millstream.common.telemetry import configure
from millstream.worker.service import registry as build
from millstream.worker.service.models import WorkerModels
from millstream.worker.service.service import EngineGone
from millstream.worker.settings import WorkerSettings

CANNOT_LOAD = 2  # exit status: the same settings will not do better
ENGINE_GONE = 70  # exit status: start me anew

log = structlog.stdlib.get_logger(part="worker")


def serve(settings: WorkerSettings) -> int:
    """Run one worker until SIGTERM or SIGINT; the exit status."""
    worker = WorkerId(incarnation("worker"))
    configure(settings.log_format, settings.log_level, {"worker": worker})
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
    async with Broker(settings.redis_url, min(COMMAND_TIMEOUT, settings.lease / 3)) as broker:
        worker_models = WorkerModels(broker, worker, settings, offers)
        if not await worker_models.load_residents(stop):
            build.leave_at_once(0)  # loading cannot be interrupted, and nothing is held yet
        loop.keep_what_is_loaded()
        gone: list[BaseException] = []
        try:
            await worker_models.serve(stop)
        except* EngineGone as group:
            gone += group.exceptions
    for error in gone:
        log.error("engine_gone", error=str(error))
    if worker_models.loading:
        build.leave_at_once(ENGINE_GONE if gone else 0)
    return ENGINE_GONE if gone else 0
