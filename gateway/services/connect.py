"""The gateway's connection to the cluster: the queue that the routes use, with the tasks that keep it going."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from millstream.common.broker.accounts.keyring import find_key
from millstream.common.broker.accounts.usage import UsageBook
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.connection.opening import open_broker
from millstream.common.broker.jobs import Bounds
from millstream.common.broker.models.directory import ModelInfo, census
from millstream.common.broker.models.inspection import backlogs, server_figures
from millstream.common.broker.models.load_requests import LoadVerb, request_load
from millstream.common.broker.records.batches import Batches
from millstream.common.broker.records.pending import Pending
from millstream.common.broker.records.quotas import Quota
from millstream.common.broker.records.store import RedisStore
from millstream.common.broker.records.unfinished import UnfinishedAnswers
from millstream.common.broker.upkeep import UpkeepRules
from millstream.common.job import ModelName
from millstream.common.process.identity import incarnation
from millstream.common.process.open_files import watch_open_files
from millstream.common.process.tasks import TaskGroup
from millstream.common.tracing.opening import traces
from millstream.gateway.access.api_keys import Keyring
from millstream.gateway.access.static_keys import keys_of
from millstream.gateway.queue.connected import connected_queue
from millstream.gateway.queue.model_names import ModelNames, under_all_names
from millstream.gateway.queue.redis_client import Terms
from millstream.gateway.records.files.storage import Storage
from millstream.gateway.services.cluster import ClusterServices
from millstream.gateway.services.cluster_feed import ClusterFeed
from millstream.gateway.services.operations import Operations
from millstream.gateway.services.tending import upkeep_loops
from millstream.gateway.settings import GatewaySettings, IntakeSettings


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
    process = "gateway" if isinstance(settings, GatewaySettings) else "background"
    async with (
        traces(settings, process, incarnation(process)) as spans,
        open_broker(settings) as broker,
        TaskGroup() as tasks,
    ):
        queue = connected_queue(broker, Terms(settings.retention, bounds_of(settings)), settings.keep_alive, spans)
        keyring = keyring_of(settings, broker)
        operations = Operations(broker, queue.gateway, queue.wait_estimator)
        upkeep = upkeep_loops(broker, upkeep_rules(settings), settings.forget_models_after)
        always = {**queue.loops, **upkeep, "open_files": watch_open_files}
        if keyring:
            always["keys"] = keyring.watch
        loops = [tasks.keep(loop, name) for name, loop in always.items()]
        try:
            yield ClusterServices(
                queue.client,
                RedisDirectory(broker, queue.client.names),
                RedisStore(broker, quotas_of(settings)),
                storage=Storage(settings.files_url),
                batches=Batches(broker),
                pending=Pending(broker),
                unfinished=UnfinishedAnswers(broker),
                usage=UsageBook(broker),
                keys=keyring,
                operations=operations,
                feed=ClusterFeed(operations.look, operations.places),
                find_key=partial(find_key, broker),
                backlogs=partial(backlogs, broker),
                servers=partial(server_figures, broker),
                spans=spans,
                tell_times=queue.hub.tell_times,
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
    """Returns how much a tenant may keep, by kind of record. Stored completions, responses, conversations with
    their items, and votes share one quota."""
    answers = Quota(
        "answers",
        settings.max_stored,
        settings.max_stored_bytes,
        ("max_stored", "max_stored_bytes"),
        "stored completions, responses, conversations, items and votes",
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
    kinds = dict.fromkeys(("completion", "response", "conversation", "item", "vote"), answers)
    return {**kinds, "file": files, "batch": batches}


def bounds_of(settings: IntakeSettings) -> Bounds:
    """Returns the bounds of what may wait, as the settings say."""
    return Bounds(
        jobs=settings.max_waiting,
        bytes=settings.max_waiting_bytes,
        tenant_jobs=settings.max_waiting_tenant,
        tenant_bytes=settings.max_waiting_tenant_bytes,
    )


def upkeep_rules(settings: IntakeSettings) -> UpkeepRules:
    """Returns the rules of upkeep, as the settings say."""
    return UpkeepRules(settings.max_attempts, int(settings.fair_after * 1000), int(settings.orphan_grace * 1000))
