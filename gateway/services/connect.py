"""The gateway's connection to the cluster: the queue that the routes use, with the tasks that keep it going."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import structlog

from millstream.common.broker.accounts.keyring import find_key
from millstream.common.broker.accounts.usage import UsageBook
from millstream.common.broker.chunks import FrameChannel
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.jobs import Bounds
from millstream.common.broker.models.directory import ModelInfo, census, model_names
from millstream.common.broker.models.inspection import backlogs, server_facts, server_figures
from millstream.common.broker.models.load_requests import LoadVerb, request_load
from millstream.common.broker.records.batches import Batches
from millstream.common.broker.records.pending import Pending
from millstream.common.broker.records.quotas import Quota
from millstream.common.broker.records.store import RedisStore
from millstream.common.broker.upkeep import keep_up
from millstream.common.job import GatewayId, ModelName
from millstream.common.process.backoff import Backoff
from millstream.common.process.identity import incarnation
from millstream.common.process.tasks import TaskGroup
from millstream.gateway.access.api_keys import Keyring
from millstream.gateway.access.authentication import keys_of
from millstream.gateway.queue.hub import FrameHub
from millstream.gateway.queue.redis_client import RedisQueueClient, Terms
from millstream.gateway.queue.wait_estimate import WaitEstimator
from millstream.gateway.queue.watchdog import Watchdog
from millstream.gateway.records.files.storage import Storage
from millstream.gateway.services.cluster import ClusterServices
from millstream.gateway.services.model_names import ModelNames, NamedQueueClient, under_all_names
from millstream.gateway.settings import GatewaySettings, IntakeSettings

UPKEEP_EVERY = 0.5  # seconds; workers do it too, a key in Redis elects one

log = structlog.stdlib.get_logger(part="gateway")


class RedisDirectory:
    """Implements `gateway.services.cluster.Directory`."""

    def __init__(self, broker: Broker, names: ModelNames) -> None:
        self._broker = broker
        self._names = names

    async def models(self) -> list[ModelInfo]:
        return under_all_names(await census(self._broker), await self._names.refresh())

    async def request_load(self, model: ModelName, verb: LoadVerb) -> None:
        await request_load(self._broker, self._names.model(model), verb)

    async def ping(self) -> None:
        await self._broker.ping()


@asynccontextmanager
async def connect(settings: IntakeSettings) -> AsyncGenerator[ClusterServices]:
    """Returns at once; a Redis that is not there yet is waited for in the background. When one of the loops that keep
    the connection going ends, the block is cancelled, and the reason raised in a group."""
    gateway = GatewayId(incarnation("gateway"))
    storage = Storage(settings.files_url)
    async with Broker(settings.redis_url) as broker, TaskGroup() as tasks:
        channel = FrameChannel(settings.redis_url, gateway)
        hub = FrameHub()
        terms = Terms(settings.retention, bounds_of(settings))
        keyring = keyring_of(settings, broker)
        wait_estimator = WaitEstimator(broker)
        queue = RedisQueueClient(broker, gateway, hub, wait_estimator, terms)
        watchdog = Watchdog(broker, gateway, hub, wait_estimator, settings.keep_alive)
        names = ModelNames(broker)
        loops = [
            tasks.keep(names.watch, "names"),
            tasks.keep(partial(hub.read, channel), "frames"),
            tasks.keep(watchdog.watch, "watchdog"),
            tasks.keep(queue.tidy, "tidy"),
            tasks.keep(partial(tend, broker, settings), "upkeep"),
            *([tasks.keep(keyring.watch, "keys")] if keyring else []),
        ]
        try:
            yield ClusterServices(
                NamedQueueClient(queue, names),
                RedisDirectory(broker, names),
                RedisStore(broker, quotas_of(settings)),
                storage=storage,
                batches=Batches(broker),
                pending=Pending(broker),
                usage=UsageBook(broker),
                keys=keyring,
                find_key=partial(find_key, broker),
                backlogs=partial(backlogs, broker),
                servers=partial(server_figures, broker),
                tell_times=hub.tell_times,
            )
        finally:
            for loop in loops:
                loop.cancel()


def keyring_of(settings: IntakeSettings, broker: Broker) -> Keyring | None:
    """Returns the keys of those who may ask; None for a process that nobody asks."""
    if not isinstance(settings, GatewaySettings):
        return None
    return Keyring(broker, keys_of(settings), demand=settings.require_keys)


def quotas_of(settings: IntakeSettings) -> dict[str, Quota]:
    """Returns how much a tenant may keep, by kind of record. Stored completions and responses share one quota."""
    answers = Quota(
        "answers",
        settings.max_stored,
        settings.max_stored_bytes,
        ("max_stored", "max_stored_bytes"),
        "stored completions and responses",
        "Delete some, or send 'store': false.",
    )
    files = Quota(
        "files",
        settings.max_files,
        settings.max_files_bytes,
        ("max_files", "max_files_bytes"),
        "files",
        "Delete some (DELETE /v1/files/{id}).",
    )
    batches = Quota("batches", settings.max_batches, 0, ("max_batches", ""), "batches", "Old ones go with time.")
    return {"completion": answers, "response": answers, "file": files, "batch": batches}


def bounds_of(settings: IntakeSettings) -> Bounds:
    """Returns the bounds of what may wait, as the settings say."""
    return Bounds(
        jobs=settings.max_waiting,
        bytes=settings.max_waiting_bytes,
        tenant_jobs=settings.max_waiting_tenant,
        tenant_bytes=settings.max_waiting_tenant_bytes,
    )


async def warn_of_eviction(broker: Broker) -> None:
    """Tells in the log of a server that may throw jobs away. Raises `RedisAway`."""
    facts = await server_facts(broker)
    if facts.eviction not in ("noeviction", "None"):
        told = "this server may throw jobs away when its memory is full: set maxmemory-policy noeviction"
        log.warning("redis_evicts", policy=facts.eviction, remedy=told)


async def tend(broker: Broker, settings: IntakeSettings) -> None:
    """Keeps every known model up, for ever; says in the log when Redis is away and when it is back."""
    backoff, away, looked = Backoff(most=1.0), False, False
    while True:
        try:
            if not looked:
                await warn_of_eviction(broker)
                looked = True
            for model in await model_names(broker):
                await keep_up(broker, model, settings.max_attempts, int(settings.orphan_grace * 1000))
        except RedisAway as error:
            if not away:
                log.warning("waiting_for_redis", error=error.message)
            away = True
            await backoff.sleep()
        else:
            if away:
                log.info("redis_back")
            away = False
            backoff.reset()
            await asyncio.sleep(UPKEEP_EVERY)
