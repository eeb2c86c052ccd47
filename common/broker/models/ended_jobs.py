# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Pages of a model's jobs that ended and are still kept."""

import builtins
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.models.inspection import SHOWN, LiveJob, live_job
from millstream.common.broker.models.job_pages import PAGE, JobFilter
from millstream.common.job import JobId, ModelName

Listed = TypeVar("Listed")
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
    server = broker.of(model)

    async def told(ids: Sequence[str]) -> builtins.list[EndedJob]:
        """Tells of jobs that are still kept: the index may know them for a moment longer."""
        kept = await kept_jobs(server, model, ids, ENDING)
        return [_ended(job, rest) for job, rest in kept if rest[0] and wanted.shows(job)]

    return await newest(server, keys.ended(model, wanted.tenant), after, limit, told)


async def newest(
    server: Broker,
    listed: str,
    after: JobId | None,
    limit: int,
    told: Callable[[Sequence[str]], Awaitable[builtins.list[Listed]]],
) -> builtins.list[Listed]:
    """Returns up to `limit` of what is `told` of the ids in a sorted set, the highest first, those after `after` (not
    listed any more: from the start)."""
    at = 0 if after is None else await _rank_after(server, listed, after)
    found: builtins.list[Listed] = []
    while len(found) < limit:
        async with redis_errors():
            ids = await cast(Awaitable[Sequence[str]], server.redis.zrange(listed, at, at + PAGE - 1, desc=True))
        found += await told(ids)
        if len(ids) < PAGE:
            break
        at += PAGE
    return found[:limit]


async def _rank_after(server: Broker, listed: str, after: JobId) -> int:
    async with redis_errors():
        rank = await cast(Awaitable[int | None], server.redis.zrevrank(listed, after))
    return 0 if rank is None else rank + 1


async def kept_jobs(
    server: Broker, model: ModelName, ids: Sequence[str], fields: Sequence[str]
) -> builtins.list[tuple[LiveJob, Sequence[str | None]]]:
    """Returns those of the jobs that are still kept, each with further `fields` of its hash."""
    async with redis_errors():
        pipe = server.redis.pipeline(transaction=False)
        pipe.time()
        for id in ids:
            pipe.hmget(keys.job(model, JobId(id)), [*SHOWN, *fields])
            pipe.xlen(keys.chunks(model, JobId(id)))
        (seconds, micros), *rows = await pipe.execute()
    now, told = seconds + micros / 1e6, zip(ids, rows[::2], rows[1::2], strict=True)
    return [(live_job(model, id, row[: len(SHOWN)], seq, now), row[len(SHOWN) :]) for id, row, seq in told if row[0]]


def _ended(job: LiveJob, ending: Sequence[str | None]) -> EndedJob:
    settled, finish, tokens, error = (value or "" for value in ending)
    return EndedJob(job, float(settled) / 1000, finish, int(float(tokens or 0)), error)
