"""The parts of the cluster that a gateway needs: the queue, the directory, the store. `app.create_app` is given a
`Connect`."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from millstream.common.broker.accounts.keyring import ApiKey
from millstream.common.broker.accounts.usage import UsageBook
from millstream.common.broker.models.directory import ModelInfo
from millstream.common.broker.models.inspection import Backlog, ServerFigures
from millstream.common.broker.models.load_requests import LoadVerb
from millstream.common.broker.records.batches import Batches
from millstream.common.broker.records.pending import Pending
from millstream.common.broker.records.unfinished import UnfinishedAnswers
from millstream.common.job import ModelName
from millstream.common.tracing.sender import SpanSender
from millstream.gateway.access.authentication import Keys
from millstream.gateway.queue.client import QueueClient
from millstream.gateway.queue.job_times import TellTimes
from millstream.gateway.records.files.storage import Storage
from millstream.gateway.records.store import RecordStore
from millstream.gateway.services.cluster_feed import ClusterFeed
from millstream.gateway.services.operations import Operations
from millstream.gateway.settings import GatewaySettings


class Directory(Protocol):
    """The directory of models and workers, read from Redis at the moment of asking."""

    async def models(self) -> list[ModelInfo]:
        """Raises `Unavailable`."""
        ...

    async def request_load(self, model: ModelName, verb: LoadVerb) -> None:
        """Asks the workers that have the model to load it, or to unload it. Raises `Unavailable`."""
        ...

    async def ping(self) -> None:
        """Returns if Redis answers. Raises `Unavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class ClusterServices:
    """The cluster as one gateway process sees it. Without a store nothing is kept
    for later retrieval."""

    queue: QueueClient
    directory: Directory
    store: RecordStore | None = None
    storage: Storage | None = None  # of files
    batches: Batches | None = None
    pending: Pending | None = None  # background responses
    unfinished: UnfinishedAnswers | None = None  # answers that are to be stored
    usage: UsageBook | None = None
    keys: Keys | None = None  # None: the settings' own
    operations: Operations | None = None
    feed: ClusterFeed | None = None
    find_key: Callable[[str], Awaitable[ApiKey | None]] | None = None  # by its digest; None for one that is revoked
    backlogs: Callable[[], Awaitable[list[Backlog]]] | None = None  # of every model
    servers: Callable[[], Awaitable[list[ServerFigures]]] | None = None  # of Redis
    spans: SpanSender | None = None  # None: nothing is traced
    tell_times: Callable[[TellTimes], None] | None = None  # who is told the times of each job that was followed


Connect = Callable[[GatewaySettings], AbstractAsyncContextManager[ClusterServices]]
