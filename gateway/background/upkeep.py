"""Upkeep that time demands, done by one of the background processes at a time."""

import time

import structlog

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.directory import model_names
from millstream.common.broker.upkeep import keep_up
from millstream.common.errors import MillstreamError
from millstream.gateway.background.batches.batch_worker import BackgroundContext
from millstream.gateway.records.files.catalogue import has_expired

log = structlog.stdlib.get_logger(part="upkeep")


class BackgroundUpkeep:
    """The periodic upkeep. Everything that is postponed while Redis or the storage is away comes at the next round."""

    def __init__(self, broker: Broker, context: BackgroundContext) -> None:
        self._broker = broker
        self._context = context

    async def evict(self) -> None:
        """Handles stale workers, passed deadlines and orphaned jobs. Gateways and workers do this too, when there are
        any."""
        settings = self._context.settings
        try:
            for model in await model_names(self._broker):
                await keep_up(self._broker, model, settings.max_attempts, int(settings.orphan_grace * 1000))
        except MillstreamError as error:
            log.warning("upkeep_postponed", error=error.message)

    async def remove_expired_files(self) -> None:
        """Removes the bytes of files whose time is over (their records went by themselves), drafts that nobody writes
        any more, and parts of batches that are over."""
        storage, now = self._context.storage, time.time()
        try:
            active = set(await self._context.batches.active())
            for name, idle in await storage.names():
                if has_expired(name, idle, now) or _left_over(name, idle, active):
                    await storage.delete(name)
                    log.info("file_removed", name=name)
        except MillstreamError as error:
            log.warning("files_postponed", error=error.message)


def _left_over(name: str, idle: float, active: set[str]) -> bool:
    """Tells whether this is a part of a batch that is over: its process died before it could clear up."""
    folder, _, rest = name.partition("/")
    return folder == "parts" and rest.partition("/")[0] not in active and idle > 3600
