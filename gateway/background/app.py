"""The background process's composition root: batches, webhooks and upkeep over a queue of their own."""

import asyncio
import time

import httpx
import structlog

from millstream.common import telemetry
from millstream.common.broker.connection.opening import open_broker
from millstream.common.broker.records.pending import EndedResponse, Pending
from millstream.common.broker.records.unfinished import AnswerKind, UnfinishedAnswer, UnfinishedAnswers
from millstream.common.process import loop
from millstream.common.process.identity import incarnation
from millstream.common.process.open_files import raise_open_files
from millstream.common.process.stopping import on_stop_signals
from millstream.common.process.tasks import TaskGroup, leaves, tell_why_it_ends
from millstream.gateway.background.answers import BackgroundResponses, KeptAnswers
from millstream.gateway.background.arq_worker import ArqQueue, ArqRunner, Periodic, Task
from millstream.gateway.background.batches.batch_worker import BackgroundContext, BatchWorker
from millstream.gateway.background.health import QUEUE
from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.background.upkeep import BackgroundUpkeep
from millstream.gateway.background.webhooks import TIMEOUT, WebhookDelivery, Webhooks, mailbox
from millstream.gateway.records.batches import Batch
from millstream.gateway.services.aliases import parse_aliases
from millstream.gateway.services.cluster import ClusterServices
from millstream.gateway.services.connect import connect

WRONG_USAGE = 2  # exit status: the same settings will not do better
LOOK_EVERY = 1  # seconds until a new batch, or one whose process died, is noticed
EVICT_EVERY = 5  # seconds; gateways and workers do it four times a second, this is the backstop
ASK_AGAIN_AFTER = 10  # seconds until work is asked for again although arq believes that somebody does it
CLEAN_EVERY = 600  # seconds
RESPONSES_AT_ONCE = 8
WEBHOOKS_AT_ONCE = 16
LONGEST_JOB = 600.0  # seconds: a turn at a batch, checking or writing a large file included
log = structlog.stdlib.get_logger(part="background")


class Background:
    """One background process, connected to its cluster. Raises `ValueError` for settings that cannot be meant."""

    def __init__(
        self,
        context: BackgroundContext,
        pending: Pending,
        unfinished: UnfinishedAnswers,
        house: BackgroundUpkeep,
        http: httpx.AsyncClient,
    ) -> None:
        settings = context.settings
        self._context = context
        self._answers = BackgroundResponses(context, pending)
        self._kept = KeptAnswers(context, unfinished)
        self._webhooks = Webhooks(settings, pending, http)
        tasks = [Task("work_on_batch", self._work_on_batch), Task("end_response", self._end_response)]
        tasks.append(Task("store_answer", self._store_answer))
        periodic = [
            Periodic("look_for_batches", LOOK_EVERY, self._look_for_batches),
            Periodic("look_for_responses", LOOK_EVERY, self._look_for_responses),
            Periodic("look_for_answers", LOOK_EVERY, self._look_for_answers),
            Periodic("evict", EVICT_EVERY, house.evict),
            Periodic("remove_expired_files", CLEAN_EVERY, house.remove_expired_files),
        ]
        at_once = settings.batches_at_once + RESPONSES_AT_ONCE + len(periodic)
        url = settings.background_redis_url or settings.redis_url
        self._work = ArqRunner(url, ArqQueue(QUEUE, at_once, LONGEST_JOB, tasks, periodic))
        # Receivers that are slow or away hold up nothing but other webhooks.
        deliveries = [Task("deliver_webhook", self._deliver, insist=True)]
        self._post = ArqRunner(url, ArqQueue(f"{QUEUE}:webhooks", WEBHOOKS_AT_ONCE, 2 * TIMEOUT, deliveries))
        self._turns = asyncio.Semaphore(settings.batches_at_once)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        async with TaskGroup() as tasks:
            tasks.keep(self._work.run, "jobs")
            tasks.keep(self._post.run, "webhooks")

    async def _look_for_batches(self) -> None:
        """Asks for work on the batches nobody works on: new ones, those between two slices, those whose process died;
        the one whose last turn is longest ago comes first."""
        for batch, grant in await self._context.batches.idle():
            # The id holds the grant: it is new as soon as somebody has begun, and until then one job is enough.
            await self._work.ask("work_on_batch", batch, id=f"batch:{batch}:{grant}:{_period()}")

    async def _work_on_batch(self, batch: str) -> None:
        if self._turns.locked():
            return  # the next look asks again
        async with self._turns:
            more = await BatchWorker(self._context, batch, self._batch_ended).work()
        if more:
            await self._look_for_batches()  # others first

    async def _batch_ended(self, batch: Batch) -> None:
        await self._tell(batch.tenant, f"batch.{batch.status}", batch.id)

    async def _look_for_responses(self) -> None:
        """Asks for work on background responses whose jobs are over: each one's end is a task, so that none waits for
        another."""
        for response in await self._answers.ended():
            name = f"response:{response.id}:{_period()}"
            await self._work.ask("end_response", response.id, response.tenant, id=name)

    async def _end_response(self, identity: str, tenant: str) -> None:
        """Stores the end of a background response and announces it."""
        response = EndedResponse(identity, tenant)
        kind = await self._answers.store(response)
        if kind is None:
            return  # the next look asks again
        if kind:
            await self._tell(tenant, kind, identity)
        await self._answers.settle(response)

    async def _look_for_answers(self) -> None:
        """Asks for work on answers that are to be stored and are complete; see `_look_for_responses`."""
        minute = int(time.time()) // 60
        for answer in await self._kept.ended():
            which = (answer.kind, answer.id, answer.tenant, answer.model)
            await self._work.ask("store_answer", *which, id=f"answer:{answer.id}:{minute}")

    async def _store_answer(self, kind: AnswerKind, identity: str, tenant: str, model: str) -> None:
        await self._kept.store(UnfinishedAnswer(kind, identity, tenant, model))

    async def _tell(self, tenant: str, kind: str, subject: str) -> None:
        for delivery in self._webhooks.deliveries(tenant, kind, subject):
            await self._send(delivery, 0)

    async def _send(self, delivery: WebhookDelivery, wait: float) -> None:
        await self._post.ask(
            "deliver_webhook", delivery.event, delivery.url, delivery.body, delivery.tried, id=delivery.id, wait=wait
        )

    async def _deliver(self, event: str, url: str, body: str, tried: int) -> None:
        again = await self._webhooks.deliver(WebhookDelivery(event, url, body, tried))
        if again is not None:
            await self._send(*again)


def _period() -> int:
    """Returns a part of a task's id that changes now and then. For arq a task is under way until `LONGEST_JOB` is over
    if its process was killed, or if Redis lost what said that it was done; a task of another id is not waited for. Two
    at once do no harm: a batch has one lease, and the end of a response is stored once."""
    return int(time.time()) // ASK_AGAIN_AFTER


def office_of(settings: BackgroundSettings, cluster: ClusterServices) -> BackgroundContext:
    """Returns what the process works with, from its connection."""
    assert cluster.store is not None and cluster.storage is not None and cluster.batches is not None
    return BackgroundContext(
        settings,
        cluster,
        cluster.store,
        cluster.storage,
        cluster.batches,
        parse_aliases(settings.aliases),
        incarnation("background"),
    )


async def work(settings: BackgroundSettings) -> None:
    """Runs the process until SIGTERM or SIGINT; what is under way goes on in another process, or when this one is
    back. Raises a group with the reason when a part of it ends before that."""
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    async with connect(settings) as cluster, open_broker(settings) as broker, mailbox() as http:
        context = office_of(settings, cluster)
        background = Background(
            context, Pending(broker), UnfinishedAnswers(broker), BackgroundUpkeep(broker, context), http
        )
        async with TaskGroup() as tasks:
            running = tasks.keep(background.run, "background")
            log.info("background_started")
            await stop.wait()
            running.cancel()
    log.info("background_stopped")


def serve(settings: BackgroundSettings) -> int:
    """Runs the process and returns its exit status."""
    telemetry.configure(settings.log_format, settings.log_level, {"process": "background"})
    raise_open_files()
    try:
        loop.run(work(settings))
    except (ValueError, ExceptionGroup) as error:
        if wrong := [each for each in leaves(error) if isinstance(each, ValueError)]:
            log.error("cannot_start", error=str(wrong[0]))
            return WRONG_USAGE
        return tell_why_it_ends(log, error)
    return 0
