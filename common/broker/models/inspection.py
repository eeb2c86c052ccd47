# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The figures that an operator wants to see: the live jobs, and how the Redis server is set up."""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, RedisAway, redis_errors
from millstream.common.broker.connection.by_server import ask, look_at_each
from millstream.common.broker.connection.cluster import ClusterClient
from millstream.common.broker.connection.url import address
from millstream.common.broker.models.directory import VITALS, model_names
from millstream.common.broker.scripts.script import NoArguments
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
        command = broker.of(model).redis.xrevrange(keys.dead(model), count=limit)
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
        ids = await cast(Awaitable[list[str]], broker.of(model).redis.zrange(keys.deadlines(model), 0, limit - 1))
        pipe = broker.of(model).redis.pipeline(transaction=False)
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
        pipe = broker.of(model).redis.pipeline(transaction=False)
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


@dataclass(frozen=True, slots=True)
class Backlog:
    """The jobs that wait for a model, and what has happened to its workers. `oldest`: seconds since the job that waits
    longest began to wait; `evicted` counts by cause (lease, died, left), `fenced` writes that were refused."""

    model: ModelName
    tiers: dict[str, int]  # jobs; those that had begun before are under "resumed"
    tenants: dict[str, int]
    oldest: float
    evicted: dict[str, int]
    fenced: int


async def backlogs(broker: Broker) -> list[Backlog]:
    """Returns the backlog of every model whose server answers, under its own name only."""
    seen, _ = await look_at_each(broker, await model_names(broker), partial(backlog_of, broker))
    return list(seen.values())


async def backlog_of(broker: Broker, model: ModelName) -> Backlog:
    """Returns the backlog of one model: two calls, however many tenants wait."""
    now, *_ = await broker.run(VITALS, model, NoArguments())
    async with redis_errors():
        pipe = broker.of(model).redis.pipeline(transaction=False)
        pipe.hgetall(keys.waiting(model))
        pipe.hgetall(keys.tally(model))
        for tier in TIERS:
            pipe.zrange(keys.tenants(model, tier), 0, -1)
        waiting, counts, *tenants = await pipe.execute()
        named = {
            keys.backlog(model, tier, tenant): tier
            for tier, names in zip(TIERS, tenants, strict=True)
            for tenant in names
        }
        begun = (keys.resume(model), keys.suspects(model), *(keys.resume_lower(model, tier) for tier in TIERS))
        streams = {**named, **dict.fromkeys(begun, "resumed")}
        for stream in streams:
            pipe.xlen(stream)
            pipe.xrange(stream, count=1)
        rows = await pipe.execute()
    lengths = list(zip(streams.values(), rows[::2], strict=True))
    firsts = [int(entries[0][0].partition("-")[0]) for entries in rows[1::2] if entries]
    return Backlog(
        model,
        {tier: sum(length for named, length in lengths if named == tier) for tier in (*TIERS, "resumed")},
        _after("jobs:", waiting),
        max(0.0, (float(now) - min(firsts)) / 1000) if firsts else 0.0,
        _after("evicted:", counts),
        int(counts.get("fenced", 0)),
    )


def _after(beginning: str, fields: Mapping[str, str]) -> dict[str, int]:
    return {name.removeprefix(beginning): int(value) for name, value in fields.items() if name.startswith(beginning)}


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """One Redis server, by its answer to INFO. `seconds`: how long that answer took."""

    name: str  # host:port of a cluster's node, the address of one of several servers; empty for the only one
    seconds: float
    info: Mapping[str, Any]


async def server_figures(broker: Broker) -> list[ServerFigures]:
    """Returns every server that the jobs lie in and that answers. Raises `RedisAway` if home does not, also where INFO
    is forbidden."""
    if len(broker.servers) == 1:
        return await _figures(broker)
    questions = [ask(broker, server, partial(_figures, server)) for server in broker.servers]
    asked = await asyncio.gather(*questions, return_exceptions=True)
    found: list[ServerFigures] = []
    for server, figures in zip(broker.servers, asked, strict=True):
        if isinstance(figures, BaseException):
            if server is broker or not isinstance(figures, RedisAway):
                raise figures
        else:
            found += [replace(each, name=each.name or address(server.url)) for each in figures]
    return found


async def _figures(broker: Broker) -> list[ServerFigures]:
    began = time.perf_counter()
    async with redis_errors():
        if isinstance(broker.redis, ClusterClient):
            asked = broker.redis.info(target_nodes=ClusterClient.PRIMARIES)
            info = cast(dict[str, Any], await cast(Awaitable[object], asked))
        else:
            info = await cast(Awaitable[dict[str, Any]], broker.redis.info())
    took = time.perf_counter() - began
    nodes = (
        cast(dict[str, dict[str, Any]], info) if all(isinstance(each, dict) for each in info.values()) else {"": info}
    )
    return [ServerFigures(name, took, facts) for name, facts in nodes.items()]
