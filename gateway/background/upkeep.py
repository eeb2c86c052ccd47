"""Upkeep that time demands, done by one of the background processes at a time."""

import time
from collections.abc import Sequence

import structlog

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.connection.by_server import look_at_each
from millstream.common.broker.models.directory import model_names
from millstream.common.broker.upkeep import keep_up
from millstream.common.errors import MillstreamError
from millstream.gateway.background.batches.batch_worker import BackgroundContext
from millstream.gateway.records.files.catalogue import has_expired
from millstream.gateway.services.connect import upkeep_rules

KEPT_PARTS = 3600  # seconds that parts stay after the last one was written, at least
log = structlog.stdlib.get_logger(part="upkeep")


class BackgroundUpkeep:
    """The periodic upkeep. Everything that is postponed while Redis or the storage is away comes at the next round."""

    def __init__(self, broker: Broker, context: BackgroundContext) -> None:
        self._broker = broker
        self._context = context

    async def evict(self) -> None:
        """Handles stale workers, passed deadlines and orphaned jobs. Gateways and workers do this too, when there are
        any."""
        rules = upkeep_rules(self._context.settings)
        try:
            models = await model_names(self._broker)
            _, away = await look_at_each(self._broker, models, lambda model: keep_up(self._broker, model, rules))
        except MillstreamError as error:
            log.warning("upkeep_postponed", error=error.message)
        else:
            for model, error in away.items():
                log.warning("upkeep_postponed", model=model, error=error.message)

    async def remove_expired_files(self) -> None:
        """Removes the bytes of files whose time is over (their records went by themselves), drafts that nobody writes
        any more, and parts of batches that are over."""
        storage, now = self._context.storage, time.time()
        try:
            active = set(await self._context.batches.active())
            names = await storage.names()
            for name in (name for name, idle in names if has_expired(name, idle, now)):
                await storage.delete(name)
                log.info("file_removed", name=name)
            for batch in _over(names, active):
                await storage.clear(f"parts/{batch}")
                log.info("parts_removed", batch=batch)
        except MillstreamError as error:
            log.warning("files_postponed", error=error.message)


def _over(names: Sequence[tuple[str, float]], active: set[str]) -> list[str]:
    """Returns the batches that have parts and are over for so long that no lost tail of Redis can bring them back."""
    idle_for: dict[str, float] = {}
    for name, idle in names:
        if name.startswith("parts/"):
            batch = name.split("/")[1]
            idle_for[batch] = min(idle, idle_for.get(batch, idle))
    return [batch for batch, idle in idle_for.items() if batch not in active and idle > KEPT_PARTS]
