# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""What time brings about, done by whoever comes first: stale workers evicted, deadlines kept, orphans cancelled."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, cast

import structlog

from millstream.common.broker import keys
from millstream.common.broker.accounts.limits import settle_owed
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.workers import GRACE_MS, evict_stale
from millstream.common.job import ModelName, WorkerId

ELECTION_MS = 250  # one process does a model's upkeep for so long
BATCH = 32  # jobs one script call touches: keeps it near a millisecond
ORPHAN_GRACE_MS = 30_000  # a dead gateway's jobs run on for so long, for clients to come back to another one

log = structlog.stdlib.get_logger(part="upkeep")


@dataclass(frozen=True, slots=True)
class UpkeepDone:
    """What one round did."""

    evicted: list[WorkerId]
    expired: int = 0
    orphans: int = 0


async def keep_up(
    broker: Broker, model: ModelName, max_attempts: int, orphan_grace_ms: int = ORPHAN_GRACE_MS
) -> UpkeepDone:
    """One round for one model, unless another process did it a moment ago. Raises `RedisAway`."""
    async with redis_errors():
        election = broker.redis.set(keys.upkeep(model), 1, nx=True, px=ELECTION_MS)
        if not await cast(Awaitable[Any], election):
            return UpkeepDone([])
    evicted: list[WorkerId] = []
    while worker := await evict_stale(broker, model, max_attempts):
        if worker not in evicted:
            evicted.append(worker)
            log.warning("worker_evicted", model=model, worker=worker)
    expired, orphans = await _stop_overdue(broker, model, orphan_grace_ms)
    await settle_owed(broker, model)
    if expired or orphans:
        log.info("jobs_stopped", model=model, expired=expired, orphans=orphans)
    return UpkeepDone(evicted, expired, orphans)


async def _stop_overdue(broker: Broker, model: ModelName, orphan_grace_ms: int) -> tuple[int, int]:
    """Until none is left: thousands may have the same deadline, and none is to hear of it late."""
    expired, orphans = 0, 0
    while True:
        counts = await broker.run("job/upkeep", model, orphan_grace_ms, BATCH, GRACE_MS)
        late, left = int(counts[0]), int(counts[1])
        expired, orphans = expired + late, orphans + left
        if max(late, left) < BATCH:
            return expired, orphans
