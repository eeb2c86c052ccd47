# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The gateway's side of a job's life: submit, attach, watch, cancel, and a look inside."""

import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import msgspec

from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.scripts.job_calls import (
    ATTACH,
    CANCEL,
    MISSING,
    RECALL,
    SUBMIT,
    WATCH,
    AttachArgs,
    CancelArgs,
    MissingArgs,
    RecallArgs,
    SubmitArgs,
    SubmittedJob,
    WatchArgs,
)
from millstream.common.chunk import NOTHING_YET, Seq
from millstream.common.errors import IdempotencyConflict
from millstream.common.job import GatewayId, JobId, JobRequest, JobState, Lease, ModelName, Tier

encode_request = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(JobRequest).decode


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job as it enters. `prefix` and `grant` are set only when a job that Redis lost is submitted again: the chunks
    its client has, and the highest grant that made them."""

    id: JobId
    request: JobRequest
    prefix: Sequence[bytes] = ()
    grant: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of what may wait, in jobs and in bytes of requests, for a model and for one tenant of it. 0: no
    bound."""

    jobs: int = 0
    bytes: int = 0
    tenant_jobs: int = 0
    tenant_bytes: int = 0

    def exceeded(self, jobs: int, size: int) -> str:
        """Returns which bound one request of so many jobs and bytes exceeds even in an empty queue; empty if none."""
        figures = ((jobs, "sequences", self.jobs, self.tenant_jobs), (size, "bytes", self.bytes, self.tenant_bytes))
        for asked, what, *bounds in figures:
            most = min(filter(None, bounds), default=asked)
            if asked > most:
                return f"{asked} {what}, and at most {most} may wait"
        return ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fields that the jobs of one request have in common."""

    gateway: GatewayId
    tenant: str
    tier: Tier
    timeout_ms: int  # until the deadline
    retention_ms: int  # how long a settled job and its log are kept
    weight: float = 1.0
    resumable: bool = False
    idempotency_digest: str = ""
    fingerprint: str = ""
    bounds: Bounds = field(default_factory=Bounds)
    affinity: Sequence[str] = ()  # keys of what the prompt begins with, the longest first; `s:` for a session's
    account: str = ""  # the API key whose limits the jobs count against


@dataclass(frozen=True, slots=True)
class Submitted:
    """The script's answer. `refused` names the bound that was reached in `reason`, with what waits now."""

    outcome: Literal["routed", "queued", "duplicate", "refused"]
    jobs: list[JobId]
    position: int = 0
    reason: str = ""
    waiting_jobs: int = 0
    waiting_bytes: int = 0


@dataclass(frozen=True, slots=True)
class JobPosition:
    """The position of a job: its state, the last seq of its log and the lease that wrote it (or runs it now). `ahead`,
    where that was asked: how many jobs come before it, an estimate beyond a hundred tenants of one tier; -1: it is not
    queued."""

    state: JobState | Literal["missing", "lost"]
    seq: Seq
    lease: Lease | Literal[""] = ""
    ahead: int = -1

    @property
    def settled(self) -> bool:
        return self.state in ("finished", "failed", "cancelled", "expired")


async def submit(broker: Broker, model: ModelName, envelope: Envelope, jobs: Sequence[NewJob]) -> Submitted:
    """Submits all jobs of one request, or none. Sending it again changes nothing. Raises `IdempotencyConflict` when the
    key was used with another body."""
    bounds = envelope.bounds
    args = SubmitArgs(
        gateway=envelope.gateway,
        tenant=envelope.tenant,
        tier=envelope.tier,
        weight=envelope.weight,
        timeout_ms=envelope.timeout_ms,
        retention_ms=envelope.retention_ms,
        resumable=int(envelope.resumable),
        idempotency_digest=envelope.idempotency_digest,
        fingerprint=envelope.fingerprint,
        max_jobs=bounds.jobs,
        max_bytes=bounds.bytes,
        max_tenant_jobs=bounds.tenant_jobs,
        max_tenant_bytes=bounds.tenant_bytes,
        affinity=" ".join(envelope.affinity),
        account=envelope.account,
    )
    rows = [SubmittedJob(job.id, encode_request(job.request), job.grant, job.prefix) for job in jobs]
    reply = await broker.run(SUBMIT, model, args, rows)
    return _submitted(reply, [job.id for job in jobs])


def _submitted(reply: list[Any], ids: list[JobId]) -> Submitted:
    match reply:
        case ["routed", *_]:
            return Submitted("routed", ids)
        case ["queued", position]:
            return Submitted("queued", ids, position=int(position))
        case ["duplicate", earlier]:
            return Submitted("duplicate", json.loads(earlier))
        case ["refused", reason, jobs, size]:
            return Submitted("refused", [], reason=reason, waiting_jobs=int(jobs), waiting_bytes=int(size))
        case _:
            raise IdempotencyConflict("This Idempotency-Key was used before with a different request body.")


async def entered(broker: Broker, model: ModelName, envelope: Envelope) -> bool:
    """Tells whether a request with this idempotency key has entered, and is not forgotten yet."""
    if not envelope.idempotency_digest:
        return False
    async with redis_errors():
        key = keys.idempotency(model, envelope.tenant, envelope.idempotency_digest)
        return bool(await cast(Awaitable[int], broker.of(model).redis.exists(key)))


@dataclass(frozen=True, slots=True)
class Delivered:
    """The part of a job that a gateway has: the newest lease it saw, how far it delivered and the chunk there, and the
    chunks it still holds (from `first` on), to be put back if Redis lost them."""

    lease: Lease | Literal[""] = ""
    seq: Seq = NOTHING_YET
    last: bytes = b""
    first: int = 1
    chunks: Sequence[bytes] = ()


async def attach(
    broker: Broker, model: ModelName, job: JobId, gateway: GatewayId, tenant: str, have: Delivered
) -> JobPosition:
    """Takes over a job's stream. `missing`: no such job of this tenant; `lost`: its log ends before what the client has
    and cannot be put back."""
    args = AttachArgs(
        id=job,
        gateway=gateway,
        tenant=tenant,
        seen=have.lease,
        delivered=have.seq,
        last=have.last,
        first=have.first,
        chunks=have.chunks,
    )
    reply = await broker.run(ATTACH, model, args)
    match reply:
        case ["ok", state, seq, lease]:
            return JobPosition(state, Seq(int(seq)), Lease(lease))
        case ["lost", seq]:
            return JobPosition("lost", Seq(int(seq)))
        case _:
            return JobPosition("missing", Seq(0))


@dataclass(frozen=True, slots=True)
class Absence:
    """A server that does not know a job: for how long the job may still be put back after a restart, and for how long
    the server has run, in seconds."""

    may_return: float
    uptime: float


async def absence(broker: Broker, model: ModelName) -> Absence:
    """Asked when a model's server does not know a job."""
    may_return, uptime = await broker.run(MISSING, model, MissingArgs())
    return Absence(int(may_return) / 1000, int(uptime) / 1000)


async def watch(
    broker: Broker, model: ModelName, gateway: GatewayId, ttl_ms: int, jobs: Sequence[tuple[JobId, Seq]]
) -> dict[JobId, JobPosition]:
    """Returns those of these jobs that have chunks beyond the given seq, are queued, or are gone; also says that the
    gateway lives."""
    args = WatchArgs(gateway=gateway, ttl_ms=ttl_ms)
    reply = await broker.run(WATCH, model, args, jobs)
    return {
        JobId(id): JobPosition(state, Seq(int(seq)), Lease(lease), int(ahead)) for id, state, seq, lease, ahead in reply
    }


async def cancel(
    broker: Broker, model: ModelName, tenant: str, jobs: Sequence[JobId], left: GatewayId | Literal[""] = ""
) -> list[str]:
    """Stops jobs wherever they are (of any tenant if `tenant` is empty); the state of each afterwards. `left`: only the
    reader at that gateway has gone, a job that is read at another goes on (`read`)."""
    return await broker.run(CANCEL, model, CancelArgs(tenant=tenant, gateway=left, ids=jobs))


async def recall(broker: Broker, model: ModelName, tenant: str, job: JobId) -> str:
    """Asks for a running job back (of any tenant if `tenant` is empty): its worker gives it up, and it goes on from its
    next token. Returns `requeueing`, the state of one that does not run, or `missing`."""
    return str(await broker.run(RECALL, model, RecallArgs(tenant=tenant, id=job)))


async def owner(broker: Broker, model: ModelName, job: JobId) -> str | None:
    """Returns the tenant whose job it is; None when there is no such job."""
    async with redis_errors():
        return await cast(Awaitable[str | None], broker.of(model).redis.hget(keys.job(model, job), "tenant"))


async def read(broker: Broker, model: ModelName, job: JobId) -> dict[str, str]:
    """Returns all fields of a job's hash; empty when there is no such job."""
    async with redis_errors():
        return await cast(Awaitable[dict[str, str]], broker.of(model).redis.hgetall(keys.job(model, job)))
