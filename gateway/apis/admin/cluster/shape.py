"""The cluster as it is told to browsers and tools."""

from typing import Literal

from pydantic import BaseModel, Field

Why = Literal["", "no_worker", "loading", "workers_not_ready", "all_slots_busy", "reserved", "next"]


class ViewerInfo(BaseModel):
    """The one who asked."""

    tenant: str
    admin: bool = Field(description="Sees all tenants and may change things.")
    local_workers: bool = Field(description="Workers of the gateway's machine can be killed and drained here.")


class RedisHealth(BaseModel):
    """The Redis server. A tenant that is no admin gets `ok` and `round_trip_ms` alone."""

    ok: bool
    error: str = ""
    round_trip_ms: float | None = None
    version: str = ""
    role: str = ""
    append_only: bool | None = None
    fsync: str = ""
    eviction: str = ""
    memory_bytes: int | None = None
    memory_limit: int | None = Field(default=None, description="Bytes; 0: none.")
    clients: int | None = None
    commands_per_second: float | None = None


class ClusterModel(BaseModel):
    """A model with its sums."""

    id: str
    engine: str
    context_length: int
    capabilities: list[str]
    system_fingerprint: str
    exactness: dict[str, str] = Field(
        description="How exactly another worker goes on with an answer, by kind of request, as in `/v1/models`."
    )
    workers: int = Field(description="Live ones.")
    slots: int
    running: int = Field(description="Jobs that workers hold.")
    waiting: int
    live_jobs: int | None = Field(description="Jobs not settled, of all tenants; for admins.")
    dead_jobs: int | None = Field(description="Jobs that killed their workers; for admins.")
    tokens_per_second: float
    policy: str
    reserve: int = Field(description="Slots of each worker that flex and batch jobs leave free.")
    fenced: dict[str, int] = Field(
        default={}, description="Writes of the last day that were refused, by worker: it had lost the lease."
    )
    loading: str = Field(description="How far a worker that loads the model is.")
    away: str = Field(description="Why the Redis server that has its queue could not be asked; empty: it was.")
    wait: float | None = Field(description="Seconds that a job which comes now will wait; null: not measured.")


class ClusterWorker(BaseModel):
    """A worker as its last heartbeat told, for one model."""

    id: str
    model: str
    state: str
    alive: bool
    engine: str
    slots: int
    load: int = Field(description="Jobs it holds, those in its inbox included.")
    running: int
    speed: float = Field(description="Tokens per second of all its slots, measured and smoothed.")
    tokens_per_second: float = Field(description="Between its last two heartbeats.")
    tokens: int = Field(description="Made since it started.")
    kv_use: float
    prefix_hit_rate: float
    lease_left: float = Field(description="Seconds; below 0 it counts as dead.")
    started: int
    version: str
    host: str | None = Field(default=None, description="For admins.")
    pid: int | None = Field(default=None, description="For admins.")


class TenantQueue(BaseModel):
    """The waiting jobs of one tenant in one tier. `served`: its virtual time, tokens / weight; the smallest is next."""

    model: str
    tier: str
    tenant: str
    waiting: int
    served: float | None = Field(description="null: jobs that had begun and lost their slot.")


class JobSummary(BaseModel):
    """A job: one that waits or runs, or that ended."""

    id: str
    object: Literal["job"] = "job"
    model: str
    state: str
    worker: str
    tenant: str
    tier: str
    attempt: int = Field(description="Workers that died with it.")
    chunks: int = Field(description="How long its log is; about one token each.")
    age: float = Field(description="Seconds since it was submitted.")
    deadline_in: float
    why: Why = Field(description="What it waits for; empty once it runs.")
    position: int | None = Field(default=None, description="1 is next; null where it runs.")
    wait: float | None = Field(default=None, description="Seconds until it may begin; null: not known.")
    ended: float | None = Field(default=None, description="Redis' clock, seconds since the epoch; null: it is live.")
    finish: str = ""
    tokens: int | None = Field(default=None, description="Of prompt and answer, once it ended.")
    error: str = ""


class ClusterState(BaseModel):
    """The cluster at one moment, as far as the caller may see it."""

    object: Literal["cluster"] = "cluster"
    at: float = Field(description="Redis' clock, seconds since the epoch.")
    viewer: ViewerInfo
    redis: RedisHealth
    tokens_per_second: float
    models: list[ClusterModel]
    workers: list[ClusterWorker]
    queues: list[TenantQueue]
    jobs: list[JobSummary] = Field(description="Those next to reach their deadlines; `/v1/jobs` has all.")
