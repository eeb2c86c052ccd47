"""The background process's composition root: batches, upkeep; the queue's second life."""

import asyncio
import signal

import structlog

from common import loop, telemetry
from common.errors import MillstreamError
from common.identity import incarnation
from gateway.background.arq_worker import Periodic, Runner, Task
from gateway.background.clerk import Clerk, Office
from gateway.background.settings import BackgroundSettings
from gateway.batch import Batch
from gateway.cluster import Cluster
from gateway.connect import connect
from gateway.intake.aliases import parse_aliases

WRONG_USAGE = 2  # exit status: the same settings will not do better
LOOK_EVERY = 1  # seconds until a new batch, or one whose process died, is noticed
log = structlog.stdlib.get_logger(part="background")


class Background:
    """One background process, connected to its cluster."""

    def __init__(self, settings: BackgroundSettings, office: Office) -> None:
        self._settings = settings
        self._office = office
        tasks = [Task("work_on_batch", self._work_on_batch)]
        periodic = [Periodic("look_for_batches", LOOK_EVERY, self._look_for_batches)]
        url = settings.background_redis_url or settings.redis_url
        self._runner = Runner(url, tasks, periodic, settings.batches_at_once + len(periodic))

    async def run(self) -> None:
        """Until cancelled."""
        await self._runner.run()

    async def _look_for_batches(self) -> None:
        """Batches nobody works on: new ones, those between two slices, those whose process died."""
        for batch, grant in await self._office.batches.idle():
            # The id holds the grant: it is new as soon as somebody has begun, and until then one job is enough.
            await self._runner.ask("work_on_batch", batch, id=f"batch:{batch}:{grant}")

    async def _work_on_batch(self, batch: str) -> None:
        grant = None
        try:
            grant = await Clerk(self._office, batch, self._batch_ended).work()
        except* MillstreamError as errors:  # the next look takes the batch up again
            log.warning("batch_waits", batch=batch, errors=[str(error) for error in errors.exceptions])
        if grant is not None:
            await self._runner.ask("work_on_batch", batch, id=f"batch:{batch}:{grant}")

    async def _batch_ended(self, batch: Batch) -> None:
        log.info("batch_ended", batch=batch.id, status=batch.status)


def office_of(settings: BackgroundSettings, cluster: Cluster) -> Office:
    """What the process works with, from its connection."""
    assert cluster.store is not None and cluster.storage is not None and cluster.batches is not None
    return Office(
        settings,
        cluster,
        cluster.store,
        cluster.storage,
        cluster.batches,
        parse_aliases(settings.aliases),
        incarnation("background"),
    )


async def work(settings: BackgroundSettings) -> None:
    """Until SIGTERM or SIGINT; what is under way goes on in another process, or when this one is back."""
    async with connect(settings) as cluster:
        running = asyncio.create_task(Background(settings, office_of(settings, cluster)).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        log.info("background_started")
        try:
            await running
        except asyncio.CancelledError:
            log.info("background_stopped")


def serve(settings: BackgroundSettings) -> int:
    """The process; its exit status."""
    telemetry.configure(settings.log_format, settings.log_level, {"process": "background"})
    try:
        loop.run(work(settings))
    except ValueError as error:
        log.error("cannot_start", error=str(error))
        return WRONG_USAGE
    return 0
