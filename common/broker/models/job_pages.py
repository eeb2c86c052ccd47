# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Pages of a model's live jobs, and the whole life of one job, as Redis has them now."""

import builtins
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.models.inspection import SHOWN, LiveJob, live_job
from millstream.common.job import JobId, ModelName, Tier
from millstream.common.leases import LeaseSpan, lease_spans

PAGE = 256  # jobs looked at in one round trip while a filtered page is gathered
Cursor = tuple[float, str]  # deadline (Redis time, ms) and id: the order of live jobs
FROM_THE_START: Cursor = (0.0, "")


@dataclass(frozen=True, slots=True)
class JobFilter:
    """The jobs that a list shows; an empty field asks for nothing."""

    state: str = ""
    tenant: str = ""

    def shows(self, job: LiveJob) -> bool:
        """Tells whether the job is one of them."""
        return self.state in ("", job.state) and self.tenant in ("", job.tenant)


@dataclass(frozen=True, slots=True)
class JobLife:
    """One job from its submission on: the fields of its hash, the last seq of its log, and Redis' time in seconds."""

    id: JobId
    model: ModelName
    fields: dict[str, str]
    seq: int
    now: float

    def moment(self, name: str) -> float | None:
        """Returns one of its times, in seconds since the epoch; None if it has not come."""
        return float(self.fields[name]) / 1000 if self.fields.get(name) else None

    @property
    def state(self) -> str:
        return self.fields.get("state", "")

    @property
    def tenant(self) -> str:
        return self.fields.get("tenant", "")

    @property
    def tier(self) -> Tier:
        return cast(Tier, self.fields.get("tier", "default"))

    @property
    def usage(self) -> dict[str, int]:
        """Returns the counted tokens; empty while it runs."""
        return msgspec.json.decode(self.fields["usage"], type=dict[str, int]) if self.fields.get("usage") else {}

    @property
    def leases(self) -> builtins.list[LeaseSpan]:
        """Returns its leases, the oldest first."""
        return lease_spans(self.fields.get("leases", ""))

    @property
    def keys(self) -> dict[str, str]:
        """Returns the keys in which Redis has it, each under what it holds."""
        found = {"job": keys.job(self.model, self.id), "chunks": keys.chunks(self.model, self.id)}
        if worker := self.fields.get("worker"):
            found["fences"] = f"{keys.prefix(self.model)}fences:{worker}"
        if where := self.fields.get("where"):
            found["waits_in"] = f"{keys.prefix(self.model)}{where}"
        return found


async def job_life(broker: Broker, model: ModelName, job: JobId) -> JobLife | None:
    """Returns a job's life; None when there is no such job (any more)."""
    async with redis_errors():
        pipe = broker.of(model).redis.pipeline(transaction=False)
        pipe.hgetall(keys.job(model, job))
        pipe.xlen(keys.chunks(model, job))
        pipe.time()
        fields, seq, (seconds, micros) = cast(tuple[dict[str, str], int, tuple[int, int]], await pipe.execute())
    return JobLife(job, model, fields, seq, seconds + micros / 1e6) if fields.get("state") else None


async def cursor_of(broker: Broker, model: ModelName, job: JobId) -> Cursor | None:
    """Returns the place of a job in the order of live jobs, also soon after its end; None when there is no such job."""
    async with redis_errors():
        command = broker.of(model).redis.hget(keys.job(model, job), "deadline")
        deadline = await cast(Awaitable[str | None], command)
    return (float(deadline), job) if deadline else None


async def jobs_page(
    broker: Broker, model: ModelName, wanted: JobFilter, after: Cursor, limit: int
) -> builtins.list[LiveJob]:
    """Returns up to `limit` live jobs of a model after the cursor, the next to reach its deadline first."""
    found: builtins.list[LiveJob] = []
    at = after
    while len(found) < limit:
        ids, full = await _ids_after(broker, model, at)
        found += [job for job in await _told(broker, model, [id for id, _ in ids]) if wanted.shows(job)]
        if not full:
            break
        at = (ids[-1][1], ids[-1][0]) if ids else (at[0], "￿")
    return found[:limit]


async def _ids_after(broker: Broker, model: ModelName, after: Cursor) -> tuple[builtins.list[tuple[str, float]], bool]:
    """Returns the next ids with their deadlines, and whether there may be more."""
    deadline, last = after
    async with redis_errors():
        equal = (
            broker.of(model).redis.zrangebyscore(keys.deadlines(model), deadline, deadline, withscores=True)
            if last
            else None
        )
        same = cast(Sequence[tuple[str, float]], await equal) if equal is not None else []
        later = f"({deadline}" if last else deadline
        command: Any = broker.of(model).redis.zrangebyscore(
            keys.deadlines(model), later, "+inf", 0, PAGE, withscores=True
        )
        rest = cast(Sequence[tuple[str, float]], await command)
    ids = [*((id, score) for id, score in same if id > last), *rest]
    return ids, len(rest) == PAGE


async def _told(broker: Broker, model: ModelName, ids: Sequence[str]) -> builtins.list[LiveJob]:
    async with redis_errors():
        pipe = broker.of(model).redis.pipeline(transaction=False)
        pipe.time()
        for id in ids:
            pipe.hmget(keys.job(model, JobId(id)), list(SHOWN))
            pipe.xlen(keys.chunks(model, JobId(id)))
        (seconds, micros), *rows = await pipe.execute()
    told = zip(ids, rows[::2], rows[1::2], strict=True)
    now = seconds + micros / 1e6
    return [live_job(model, id, row, seq, now) for id, row, seq in told if row[0]]
