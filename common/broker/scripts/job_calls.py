"""The scripts of a job's life that gateways call, and their arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from millstream.common.broker.scripts.script import Script
from millstream.common.chunk import Seq
from millstream.common.job import GatewayId, JobId, Lease, Tier

GRACE_MS = 2000  # after the server restarted: time for gateways to put back what was lost and for leases to be renewed


@dataclass(slots=True, kw_only=True)
class SubmitArgs:
    """The arguments that the jobs of one request have in common, as the script takes it; `resumable` is 0 or 1."""

    gateway: GatewayId
    tenant: str
    tier: Tier
    weight: float
    timeout_ms: int
    retention_ms: int
    resumable: int
    idempotency_digest: str
    fingerprint: str
    max_jobs: int
    max_bytes: int
    max_tenant_jobs: int
    max_tenant_bytes: int
    affinity: str
    account: str


class SubmittedJob(NamedTuple):
    """A job as the script takes it; `request` is JSON."""

    id: JobId
    request: bytes
    grant: int
    prefix: Sequence[bytes]


@dataclass(slots=True, kw_only=True)
class AttachArgs:
    """A gateway and what it has of a job."""

    id: JobId
    gateway: GatewayId
    tenant: str
    seen: Lease | Literal[""]
    delivered: Seq
    last: bytes
    first: int
    chunks: Sequence[bytes]


@dataclass(slots=True, kw_only=True)
class WatchArgs:
    """A gateway, and how long it counts as living from now on."""

    gateway: GatewayId
    ttl_ms: int


class Watched(NamedTuple):
    """A job and the last seq delivered."""

    id: JobId
    had: Seq


@dataclass(slots=True, kw_only=True)
class CancelArgs:
    """Jobs, whose they must be and which reader has gone; empty: anybody's, whoever reads them."""

    tenant: str
    gateway: GatewayId | Literal[""]
    ids: Sequence[JobId]


@dataclass(slots=True, kw_only=True)
class RecallArgs:
    """A job that is to be given back, and whose it must be; empty: anybody's."""

    tenant: str
    id: JobId


@dataclass(slots=True, kw_only=True)
class MissingArgs:
    """The restart grace, in which jobs are put back."""

    grace_ms: int = GRACE_MS


SUBMIT = Script("job/submit", SubmitArgs, SubmittedJob)
ATTACH = Script("job/attach", AttachArgs)
WATCH = Script[WatchArgs, tuple[JobId, Seq]]("job/watch", WatchArgs, Watched)
CANCEL = Script("job/cancel", CancelArgs)
MISSING = Script("job/missing", MissingArgs)
RECALL = Script("job/recall", RecallArgs)
