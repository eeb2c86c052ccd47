# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Pages of a model's jobs that gave up their slots to others, with all leases that they have had."""

import builtins
from collections.abc import Sequence
from dataclasses import dataclass

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.models.ended_jobs import newest_ids, rank_after
from millstream.common.broker.models.inspection import SHOWN, LiveJob, live_job
from millstream.common.broker.models.job_pages import PAGE
from millstream.common.job import JobId, ModelName
from millstream.common.leases import LeaseSpan, lease_spans


@dataclass(frozen=True, slots=True)
class PreemptedJob:
    """A job that gave up its slot at least once, waiting, running or over."""

    job: LiveJob
    leases: builtins.list[LeaseSpan]


async def preempted_page(
    broker: Broker, model: ModelName, tenant: str, after: JobId | None, limit: int
) -> builtins.list[PreemptedJob]:
    """Returns up to `limit` of these jobs, of any tenant if `tenant` is empty. The one that gave up its slot last comes
    first. It goes on after `after` (not listed any more: from the start)."""
    listed = keys.preempted(model)
    server = broker.of(model)
    at = 0 if after is None else await rank_after(server, listed, after)
    found: builtins.list[PreemptedJob] = []
    while len(found) < limit:
        ids = await newest_ids(server, listed, at)
        found += [each for each in await _told(server, model, ids) if tenant in ("", each.job.tenant)]
        if len(ids) < PAGE:
            break
        at += PAGE
    return found[:limit]


async def _told(broker: Broker, model: ModelName, ids: Sequence[str]) -> builtins.list[PreemptedJob]:
    """Returns those of the jobs that are still kept."""
    async with redis_errors():
        pipe = broker.redis.pipeline(transaction=False)
        pipe.time()
        for id in ids:
            pipe.hmget(keys.job(model, JobId(id)), [*SHOWN, "leases"])
            pipe.xlen(keys.chunks(model, JobId(id)))
        (seconds, micros), *rows = await pipe.execute()
    now, told = seconds + micros / 1e6, zip(ids, rows[::2], rows[1::2], strict=True)
    return [
        PreemptedJob(live_job(model, id, row[: len(SHOWN)], seq, now), lease_spans(row[len(SHOWN)] or ""))
        for id, row, seq in told
        if row[0]
    ]
