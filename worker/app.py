"""The worker's composition root: settings in, models loaded, services run, an exit status out."""

import asyncio
import signal
import sys

import structlog

from common import loop
from common.broker.connect import COMMAND_TIMEOUT, Broker
from common.errors import MillstreamError
from common.identity import incarnation
from common.job import WorkerId
from common.telemetry import configure
from worker.engines import build
from worker.engines.base import Engine, ModelCard
from worker.service import EngineGone, ModelService
from worker.settings import WorkerSettings

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
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    engines = build.engines(settings)
    loaded = [(engine, await load(engine, stop)) for engine in engines]
    try:
        return await _serve_all(settings, worker, [(engine, card) for engine, card in loaded if card], stop)
    finally:
        for engine in engines:
            if engine.broken is None:
                await asyncio.to_thread(engine.close)


async def load(engine: Engine, stop: asyncio.Event) -> ModelCard | None:
    """Load in a thread, telling the log how far it is; None if told to stop meanwhile."""
    loading = asyncio.create_task(asyncio.to_thread(engine.load, progress))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not loading.done():
        build.leave_at_once(0)  # loading cannot be interrupted, and nothing is held yet
    card = loading.result()
    log.info("loaded", model=card.name, engine=card.engine, context_length=card.context_length, slots=engine.slots)
    return card


def progress(stage: str, fraction: float | None) -> None:
    """One line of the log for each stage of loading; `up` draws its bar from them."""
    log.info("loading", stage=stage, fraction=fraction)


async def _serve_all(
    settings: WorkerSettings, worker: WorkerId, loaded: list[tuple[Engine, ModelCard]], stop: asyncio.Event
) -> int:
    async with Broker(settings.redis_url, min(COMMAND_TIMEOUT, settings.lease / 3)) as broker:
        services = [ModelService(broker, worker, engine, card, settings) for engine, card in loaded]
        gone: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as running:
                for service in services:
                    running.create_task(service.run(stop), name=f"serve {service.model}")
        except* EngineGone as group:
            gone += group.exceptions
        for error in gone:
            log.error("engine_gone", error=str(error))
        return ENGINE_GONE if gone else 0
