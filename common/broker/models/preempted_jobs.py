"""Pages of a model's jobs that gave up their slots to others, with all leases that they have had."""

import builtins
from collections.abc import Sequence
from dataclasses import dataclass

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.ended_jobs import kept_jobs, newest
from millstream.common.broker.models.inspection import LiveJob
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
    server = broker.of(model)

    async def told(ids: Sequence[str]) -> builtins.list[PreemptedJob]:
        kept = await kept_jobs(server, model, ids, ["leases"])
        return [PreemptedJob(job, lease_spans(rest[0] or "")) for job, rest in kept if tenant in ("", job.tenant)]

    return await newest(server, keys.preempted(model), after, limit, told)
