"""Makes the workers' first models known before any part is up: a request that comes early waits instead of failing."""

import asyncio

from millstream.cli.flags import read
from millstream.cli.settings import UpSettings
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.directory import announce
from millstream.common.errors import MillstreamError, Unavailable
from millstream.common.job import ModelName
from millstream.worker.service.registry import offers
from millstream.worker.settings import WorkerSettings

PATIENCE = 1.0  # seconds for a queue that may be away: the workers say it again


def first_names(settings: UpSettings) -> list[ModelName]:
    """Returns the names of the models that the workers load at their start, as far as they can be told."""
    if not settings.workers:
        return []
    worker = read(WorkerSettings, {"engine": settings.engine, "model": settings.model, "upstream": settings.upstream})
    try:
        chosen = offers(worker)
    except MillstreamError:
        return []  # the worker says what is wrong
    names = (each.name or each.expected for each in chosen if each.resident)
    return [ModelName(name) for name in names if name]


async def announce_first_names(broker: Broker, settings: UpSettings) -> None:
    """Announces them, if the queue is there."""
    try:
        async with asyncio.timeout(PATIENCE):
            for name in first_names(settings):
                await announce(broker, name)
    except (Unavailable, TimeoutError):
        pass
