# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Pages of a model's jobs that ended and are still kept."""

import builtins
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.models.inspection import SHOWN, LiveJob, live_job
from millstream.common.broker.models.job_pages import PAGE, JobFilter
from millstream.common.job import JobId, ModelName

ENDING = ("settled", "finish", "tokens", "error")


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that is over. `ended`: Redis time, seconds since the epoch; `tokens`: those of prompt and answer."""

    job: LiveJob
    ended: float
    finish: str
    tokens: int
    error: str


async def ended_page(
    broker: Broker, model: ModelName, wanted: JobFilter, after: JobId | None, limit: int
) -> builtins.list[EndedJob]:
    """Returns up to `limit` jobs of a model, the newest first, those after `after` (not listed any more: from the
    start). An empty state asks for all that ended."""
    listed = keys.ended(model, wanted.tenant)
    server = broker.of(model)
    at = 0 if after is None else await rank_after(server, listed, after)
    found: builtins.list[EndedJob] = []
    while len(found) < limit:
        ids = await newest_ids(server, listed, at)
        found += [each for each in await _told(server, model, ids) if wanted.shows(each.job)]
        if len(ids) < PAGE:
            break
        at += PAGE
    return found[:limit]


async def rank_after(broker: Broker, listed: str, after: JobId) -> int:
    """Returns where in a sorted set, the highest first, what comes after a job begins; 0 if it is not
    listed any more."""
    async with redis_errors():
        rank = await cast(Awaitable[int | None], broker.redis.zrevrank(listed, after))
    return 0 if rank is None else rank + 1


async def newest_ids(broker: Broker, listed: str, at: int) -> Sequence[str]:
    """Returns the next ids of a sorted set, the highest first, at most `PAGE`."""
    async with redis_errors():
        return await cast(Awaitable[Sequence[str]], broker.redis.zrange(listed, at, at + PAGE - 1, desc=True))


async def _told(broker: Broker, model: ModelName, ids: Sequence[str]) -> builtins.list[EndedJob]:
    """Returns the jobs that are still kept: the index may know them for a moment longer."""
    async with redis_errors():
        pipe = broker.redis.pipeline(transaction=False)
        pipe.time()
        for id in ids:
            pipe.hmget(keys.job(model, JobId(id)), [*SHOWN, *ENDING])
            pipe.xlen(keys.chunks(model, JobId(id)))
        (seconds, micros), *rows = await pipe.execute()
    now, told = seconds + micros / 1e6, zip(ids, rows[::2], rows[1::2], strict=True)
    return [_ended(model, id, row, seq, now) for id, row, seq in told if row[0] and row[len(SHOWN)]]


def _ended(model: ModelName, id: str, row: Sequence[str | None], seq: int, now: float) -> EndedJob:
    settled, finish, tokens, error = (value or "" for value in row[len(SHOWN) :])
    job = live_job(model, id, row[: len(SHOWN)], seq, now)
    return EndedJob(job, float(settled) / 1000, finish, int(float(tokens or 0)), error)
