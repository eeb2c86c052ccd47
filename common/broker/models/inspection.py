# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The figures that an operator wants to see: the live jobs, and how the Redis server is set up."""

import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.errors import Unavailable
from millstream.common.job import TIERS, JobId, ModelName

SHOWN = ("state", "worker", "tenant", "tier", "attempt", "submitted", "deadline")


@dataclass(frozen=True, slots=True)
class LiveJob:
    """A job queued or running. Times are Redis time in seconds; `age` since submission, `left` to the deadline."""

    id: JobId
    model: ModelName
    state: str
    worker: str
    tenant: str
    tier: str
    attempt: int
    seq: int
    age: float
    left: float


@dataclass(frozen=True, slots=True)
class DeadJob:
    """A job that was given up because its workers kept dying. `when`: Redis time, seconds since the epoch."""

    id: JobId
    model: ModelName
    tenant: str
    when: float
    reason: str
    request: str  # JSON, at most 64 KiB of it


async def dead_jobs(broker: Broker, model: ModelName, limit: int = 1000) -> list[DeadJob]:
    """Returns the poison jobs of a model that are kept for an operator, the newest first."""
    async with redis_errors():
        command = broker.redis.xrevrange(keys.dead(model), count=limit)
        graves = await cast(Awaitable[list[tuple[str, dict[str, str]]]], command)
    return [
        DeadJob(
            JobId(grave["job"]),
            model,
            grave.get("tenant", ""),
            int(entry.partition("-")[0]) / 1000,
            grave["reason"],
            grave.get("request", ""),
        )
        for entry, grave in graves
    ]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The part of a Redis server's set-up that decides whether jobs survive. `fsync` is "unknown" where CONFIG is
    forbidden."""

    version: str
    append_only: bool
    fsync: str
    eviction: str  # maxmemory-policy
    memory: str
    role: str
    memory_bytes: int = 0
    memory_limit: int = 0  # bytes; 0: none
    clients: int = 0
    commands_per_second: float = 0.0


async def live_jobs(broker: Broker, model: ModelName, limit: int = 1000) -> list[LiveJob]:
    """Returns the jobs of a model that are not settled, the next to reach its deadline first, at most `limit`."""
    async with redis_errors():
        ids = await cast(Awaitable[list[str]], broker.redis.zrange(keys.deadlines(model), 0, limit - 1))
        pipe = broker.redis.pipeline(transaction=False)
        pipe.time()
        for id in ids:
            pipe.hmget(keys.job(model, JobId(id)), list(SHOWN))
            pipe.xlen(keys.chunks(model, JobId(id)))
        (seconds, micros), *rows = await pipe.execute()
    now, told = seconds + micros / 1e6, zip(ids, rows[::2], rows[1::2], strict=True)
    return [live_job(model, id, row, seq, now) for id, row, seq in told if row[0]]


def live_job(model: ModelName, id: str, row: Sequence[str | None], seq: int, now: float) -> LiveJob:
    """Returns a job of the fields `SHOWN`, the last seq of its log and Redis' time in seconds."""
    state, worker, tenant, tier, attempt, submitted, deadline = (value or "" for value in row)
    age, left = now - float(submitted or 0) / 1000, float(deadline or 0) / 1000 - now
    return LiveJob(JobId(id), model, state, worker, tenant, tier, int(attempt or 0), seq, age, left)


@dataclass(frozen=True, slots=True)
class Queue:
    """The waiting jobs of one tenant in one tier. `served`: its virtual time, tokens / weight; None: jobs that had
    begun."""

    tier: str
    tenant: str
    waiting: int
    served: float | None


async def queues(broker: Broker, model: ModelName) -> list[Queue]:
    """Returns everything that waits for a model, in the order of the tiers; what was begun already comes first in its
    tier."""
    async with redis_errors():
        pipe = broker.redis.pipeline(transaction=False)
        pipe.xlen(keys.resume(model))
        for tier in TIERS:
            pipe.xlen(keys.resume_lower(model, tier))
            pipe.zrange(keys.tenants(model, tier), 0, -1, withscores=True)
        resumed, *rows = await pipe.execute()
        found = [Queue("any", "(begun)", int(resumed), None)]
        for tier, begun, tenants in zip(TIERS, rows[::2], rows[1::2], strict=True):
            found.append(Queue(tier, "(begun)", int(begun), None))
            for tenant, _ in tenants:
                pipe.xlen(keys.backlog(model, tier, tenant))
            lengths = await pipe.execute() if tenants else []
            pairs = zip(tenants, lengths, strict=True)
            found += [Queue(tier, tenant, int(length), float(served)) for (tenant, served), length in pairs]
    return [queue for queue in found if queue.waiting]


async def clock_skew(broker: Broker) -> float:
    """Returns by how many seconds this machine's clock is ahead of the server's."""
    async with redis_errors():
        seconds, micros = await cast(Awaitable[tuple[int, int]], broker.redis.time())
    return time.time() - seconds - micros / 1e6


async def server_facts(broker: Broker) -> ServerFacts:
    """Raises `RedisAway` when the server cannot be reached."""
    async with redis_errors():
        info = await cast(Awaitable[dict[str, object]], broker.redis.info())
    return ServerFacts(
        version=str(info.get("valkey_version") or info.get("redis_version")),
        append_only=str(info.get("aof_enabled")) == "1",
        fsync=await _config(broker, "appendfsync"),
        eviction=str(info.get("maxmemory_policy")),
        memory=str(info.get("used_memory_human")),
        role=str(info.get("role")),
        memory_bytes=int(str(info.get("used_memory", 0))),
        memory_limit=int(str(info.get("maxmemory", 0))),
        clients=int(str(info.get("connected_clients", 0))),
        commands_per_second=float(str(info.get("instantaneous_ops_per_sec", 0))),
    )


async def _config(broker: Broker, name: str) -> str:
    try:
        async with redis_errors():
            return (await cast(Awaitable[dict[str, str]], broker.redis.config_get(name))).get(name, "unknown")
    except Unavailable:
        return "unknown"  # managed services forbid CONFIG
