"""The background process's composition root: batches, upkeep; the queue's second life."""

import asyncio

import structlog

from common import loop, telemetry
from common.broker.connect import Broker
from common.broker.pending import Pending
from common.errors import MillstreamError
from common.identity import incarnation
from common.stopping import on_stop_signals
from gateway.background.answers import Answers
from gateway.background.arq_worker import Periodic, Runner, Task
from gateway.background.clerk import Clerk, Office
from gateway.background.settings import BackgroundSettings
from gateway.background.upkeep import House
from gateway.background.webhooks import Letter, Webhooks
from gateway.batch import Batch
from gateway.cluster import Cluster
from gateway.connect import connect
from gateway.intake.aliases import parse_aliases

WRONG_USAGE = 2  # exit status: the same settings will not do better
LOOK_EVERY = 1  # seconds until a new batch, or one whose process died, is noticed
EVICT_EVERY = 5  # seconds; gateways and workers do it four times a second, this is the backstop
CLEAN_EVERY = 600  # seconds
WEBHOOKS_AT_ONCE = 16
log = structlog.stdlib.get_logger(part="background")


class Background:
    """One background process, connected to its cluster. Raises `ValueError` for settings that cannot be meant."""

    def __init__(self, settings: BackgroundSettings, office: Office, pending: Pending, house: House) -> None:
        self._office = office
        self._answers = Answers(office, pending)
        self._webhooks = Webhooks(settings, pending)
        tasks = [Task("work_on_batch", self._work_on_batch), Task("deliver_webhook", self._deliver)]
        periodic = [
            Periodic("look_for_batches", LOOK_EVERY, self._look_for_batches),
            Periodic("look_for_responses", LOOK_EVERY, self._look_for_responses),
            Periodic("evict", EVICT_EVERY, house.evict),
            Periodic("remove_expired_files", CLEAN_EVERY, house.remove_expired_files),
        ]
        url = settings.background_redis_url or settings.redis_url
        self._runner = Runner(url, tasks, periodic, settings.batches_at_once + WEBHOOKS_AT_ONCE + len(periodic))
        self._turns = asyncio.Semaphore(settings.batches_at_once)

    async def run(self) -> None:
        """Until cancelled."""
        await self._runner.run()

    async def _look_for_batches(self) -> None:
        """Batches nobody works on: new ones, those between two slices, those whose process died; the one whose last
        turn is longest ago first."""
        for batch, grant in await self._office.batches.idle():
            # The id holds the grant: it is new as soon as somebody has begun, and until then one job is enough.
            await self._runner.ask("work_on_batch", batch, id=f"batch:{batch}:{grant}")

    async def _work_on_batch(self, batch: str) -> None:
        if self._turns.locked():
            return  # the next look asks again
        more = False
        try:
            async with self._turns:
                more = await Clerk(self._office, batch, self._batch_ended).work()
        except* MillstreamError as errors:  # the next look takes the batch up again
            log.warning("batch_waits", batch=batch, errors=[str(error) for error in errors.exceptions])
        if more:
            await self._look_for_batches()  # others first

    async def _batch_ended(self, batch: Batch) -> None:
        await self._tell(batch.tenant, f"batch.{batch.status}", batch.id)

    async def _look_for_responses(self) -> None:
        """Background responses whose jobs are over: their end is stored and told."""
        try:
            for response in await self._answers.ended():
                kind = await self._answers.store(response)
                if kind is None:
                    continue
                if kind:
                    await self._tell(response.tenant, kind, response.id)
                await self._answers.settle(response)
        except MillstreamError as error:
            log.warning("responses_wait", error=error.message)  # the next look takes them up again

    async def _tell(self, tenant: str, kind: str, subject: str) -> None:
        for letter in self._webhooks.letters(tenant, kind, subject):
            await self._send(letter, 0)

    async def _send(self, letter: Letter, wait: float) -> None:
        await self._runner.ask(
            "deliver_webhook", letter.event, letter.url, letter.body, letter.tried, id=letter.id, wait=wait
        )

    async def _deliver(self, event: str, url: str, body: str, tried: int) -> None:
        again = await self._webhooks.deliver(Letter(event, url, body, tried))
        if again is not None:
            await self._send(*again)


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
    async with connect(settings) as cluster, Broker(settings.redis_url) as broker:
        office = office_of(settings, cluster)
        background = Background(settings, office, Pending(broker), House(broker, office))
        running = asyncio.create_task(background.run())
        on_stop_signals(running.cancel)
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
    except* ValueError as errors:
        log.error("cannot_start", error=str(errors.exceptions[0]))
        raise SystemExit(WRONG_USAGE) from None
    return 0
