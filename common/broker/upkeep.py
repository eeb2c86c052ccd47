# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The upkeep that time demands, done by whichever process comes first: stale workers evicted, deadlines kept, orphans
cancelled."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, cast

import structlog

from millstream.common.broker import keys
from millstream.common.broker.accounts.limits import settle_owed
from millstream.common.broker.connection.broker import Broker, RedisAway, redis_errors
from millstream.common.broker.scripts.script import Script
from millstream.common.broker.workers import GRACE_MS, evict_stale
from millstream.common.job import ModelName, WorkerId

ELECTION_MS = 250  # one process does a model's upkeep for so long
BATCH = 32  # jobs one script call touches: keeps it near a millisecond
GIVING_WAY = 8  # jobs that are asked to give their slots up in one round
ORPHAN_GRACE_MS = 30_000  # a dead gateway's jobs run on for so long, for clients to come back to another one

log = structlog.stdlib.get_logger(part="upkeep")


@dataclass(frozen=True, slots=True)
class UpkeepDone:
    """The work that one round did."""

    evicted: list[WorkerId]
    expired: int = 0
    orphans: int = 0
    giving_way: int = 0


@dataclass(slots=True, kw_only=True)
class UpkeepArgs:
    """The arguments say what is overdue, and how many of each one call stops."""

    orphan_grace_ms: int
    limit: int
    grace_ms: int


@dataclass(slots=True, kw_only=True)
class ShareArgs:
    """The arguments say for how long a tenant waits before others give slots up, and how many in one call."""

    patience_ms: int
    limit: int = GIVING_WAY
    grace_ms: int = GRACE_MS
    pause_ms: int = 1000


UPKEEP = Script("job/upkeep", UpkeepArgs)
SHARE = Script("job/share", ShareArgs)


@dataclass(frozen=True, slots=True)
class UpkeepRules:
    """The settings that a round keeps. `fair_after_ms`: how long a tenant waits until others give it slots; 0: they
    never do."""

    max_attempts: int
    fair_after_ms: int = 0
    orphan_grace_ms: int = ORPHAN_GRACE_MS


async def keep_up(broker: Broker, model: ModelName, rules: UpkeepRules) -> UpkeepDone:
    """Does one round for one model, unless another process did it a moment ago. Raises `RedisAway`."""
    async with redis_errors():
        election = broker.of(model).redis.set(keys.upkeep(model), 1, nx=True, px=ELECTION_MS)
        if not await cast(Awaitable[Any], election):
            return UpkeepDone([])
    evicted: list[WorkerId] = []
    while worker := await evict_stale(broker, model, rules.max_attempts):
        if worker not in evicted:
            evicted.append(worker)
            log.warning("worker_evicted", model=model, worker=worker)
    expired, orphans = await _stop_overdue(broker, model, rules.orphan_grace_ms)
    giving_way = await _share_slots(broker, model, rules.fair_after_ms)
    await _settle(broker, model)
    if expired or orphans:
        log.info("jobs_stopped", model=model, expired=expired, orphans=orphans)
    return UpkeepDone(evicted, expired, orphans, giving_way)


async def _settle(broker: Broker, model: ModelName) -> None:
    """Carries over what settled jobs owe. What is owed waits at the model's server while home is away."""
    try:
        await settle_owed(broker, model)
    except RedisAway as error:
        if broker.of(model) is broker:
            raise
        log.debug("settling_postponed", model=model, error=error.message)


async def _stop_overdue(broker: Broker, model: ModelName, orphan_grace_ms: int) -> tuple[int, int]:
    """Stops overdue jobs until none is left: thousands may have the same deadline, and none is to hear of it late."""
    expired, orphans = 0, 0
    args = UpkeepArgs(orphan_grace_ms=orphan_grace_ms, limit=BATCH, grace_ms=GRACE_MS)
    while True:
        counts = await broker.run(UPKEEP, model, args)
        late, left = int(counts[0]), int(counts[1])
        expired, orphans = expired + late, orphans + left
        if max(late, left) < BATCH:
            return expired, orphans


async def _share_slots(broker: Broker, model: ModelName, patience_ms: int) -> int:
    """Asks jobs of tenants above their share to give their slots to tenants that have waited for so long."""
    if not patience_ms:
        return 0
    asked = int(await broker.run(SHARE, model, ShareArgs(patience_ms=patience_ms)))
    if asked:
        log.info("jobs_giving_way", model=model, jobs=asked)
    return asked
