"""The worker's side of a job's life: beat, claim, step, handoff; and eviction, which anyone may do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.jobs import decode_request
from millstream.common.broker.scripts.job_calls import GRACE_MS
from millstream.common.broker.scripts.script import Script
from millstream.common.chunk import Seq
from millstream.common.job import JobId, JobRequest, Lease, ModelName, WorkerId

CLAIM_CHARGE = 256  # tokens charged at claim, corrected at settle, so that a burst of claims is already fair
EVICT_BATCH = 32  # jobs a call: keeps the script near a millisecond


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job this worker now holds. `seq` is the last one logged: above 0 it is a continuation. `submitted_ms` and
    `leases` (`common.leases`) are what its hash tells of its past."""

    id: JobId
    model: ModelName
    lease: Lease
    seq: Seq
    attempt: int
    deadline_ms: int
    request: JobRequest
    submitted_ms: int = 0
    leases: str = ""

    @property
    def grant(self) -> int:
        return int(self.lease.partition(":")[0])

    @property
    def worker(self) -> WorkerId:
        """Returns who holds it."""
        return WorkerId(self.lease.partition(":")[2])


@dataclass(frozen=True, slots=True)
class Claim:
    """`ok` with jobs, or why there are none: the restart grace, or this worker's own lease is not there."""

    status: Literal["ok", "grace", "unregistered"]
    jobs: list[Claimed]
    wait_ms: int = 0


class End(NamedTuple):
    """The end of a job as its worker settles it. `usage` is JSON; `tokens` is what its tenant is charged."""

    state: Literal["finished", "failed", "cancelled", "expired"]
    finish: str
    usage: bytes
    tokens: int


class JobStep(NamedTuple):
    """One job's part of a step: its chunks from `first` on, and its end if this was the last."""

    id: JobId
    lease: Lease
    first: Seq
    chunks: Sequence[bytes]
    ending: End | None = None


@dataclass(frozen=True, slots=True)
class StepReply:
    """The reply to a step: per job the answer and the log's last seq. `waits`: jobs ended, and somebody waits who might
    have a slot of theirs. (Who comes later is handed to the worker, whose inbox rings.)"""

    answers: list[tuple["StepAnswer", Seq]]
    waits: bool


@dataclass(frozen=True, slots=True)
class Pulse:
    """A heartbeat's reply: jobs this worker no longer holds, held ones it did not name, ones to cancel, ones to give
    back because interactive jobs wait."""

    lost: list[JobId]
    unknown: list[Claimed]
    cancel: list[JobId]
    preempt: list[JobId]


@dataclass(slots=True, kw_only=True)
class BeatArgs:
    """A heartbeat: `about` is field after value, `running` are the jobs it knows."""

    worker: WorkerId
    lease_ms: int
    about: Sequence[str]
    running: Sequence[JobId]


@dataclass(slots=True, kw_only=True)
class ClaimArgs:
    """Says how many jobs the worker has room for; `estimate` is the tokens charged for each in advance."""

    worker: WorkerId
    room: int
    grace_ms: int = GRACE_MS
    estimate: int = CLAIM_CHARGE


@dataclass(slots=True, kw_only=True)
class WorkerArgs:
    """The worker that says so."""

    worker: WorkerId


@dataclass(slots=True, kw_only=True)
class StepArgs:
    """The worker, and the jobs of the step in the order of their parts."""

    worker: WorkerId
    ids: Sequence[JobId]


@dataclass(slots=True, kw_only=True)
class RetryArgs:
    """The worker, and what losing their work costs its jobs."""

    worker: WorkerId
    attempts: int
    max_attempts: int


class StepPart(NamedTuple):
    """A `JobStep` without its id."""

    lease: Lease
    first: Seq
    chunks: Sequence[bytes]
    ending: End | None


class GivenBack(NamedTuple):
    """A job and the lease it was held by."""

    id: JobId
    lease: Lease


@dataclass(slots=True, kw_only=True)
class EvictArgs:
    """The arguments say whom to evict, and what it costs its jobs. `worker` is empty for any whose lease ran out."""

    worker: WorkerId | Literal[""]
    force: int
    attempts: int
    max_attempts: int
    grace_ms: int = GRACE_MS
    limit: int = EVICT_BATCH


@dataclass(slots=True, kw_only=True)
class PassArgs:
    """A job, by which lease it is held, and the context it needs, in tokens."""

    worker: WorkerId
    id: JobId
    lease: Lease
    room: int


BEAT = Script("worker/beat", BeatArgs)
CLAIM = Script("job/claim", ClaimArgs)
STEP = Script[StepArgs, tuple[Lease, Seq, Sequence[bytes], End | None]]("job/step", StepArgs, StepPart)
HANDOFF = Script[WorkerArgs, tuple[JobId, Lease]]("job/handoff", WorkerArgs, GivenBack)
PASS = Script("job/pass", PassArgs)
PREEMPT = Script[WorkerArgs, tuple[JobId, Lease]]("job/preempt", WorkerArgs, GivenBack)
RETRY = Script[RetryArgs, tuple[JobId, Lease]]("job/retry", RetryArgs, GivenBack)
EVICT = Script("worker/evict", EvictArgs)

StepAnswer = Literal["ok", "fenced", "lagging", "cancel", "preempt"]


async def beat(
    broker: Broker,
    model: ModelName,
    worker: WorkerId,
    lease_ms: int,
    about: Mapping[str, str],
    running: Sequence[JobId],
) -> Pulse:
    """Renews the lease (which also registers the worker) and compares notes. `about` is the heartbeat hash; routing
    reads its `slots`, `speed` and `state`."""
    fields = [part for pair in about.items() for part in pair]
    args = BeatArgs(worker=worker, lease_ms=lease_ms, about=fields, running=running)
    lost, unknown, cancel, preempt = await broker.run(BEAT, model, args)
    return Pulse(lost, [_claimed(model, row) for row in unknown], cancel, preempt)


async def claim(broker: Broker, model: ModelName, worker: WorkerId, room: int) -> Claim:
    """Takes up to `room` jobs. If the reply is lost, the next beat names the jobs as unknown."""
    status, *rest = await broker.run(CLAIM, model, ClaimArgs(worker=worker, room=room))
    if status == "ok":
        return Claim("ok", [_claimed(model, row) for row in rest])
    return Claim(status, [], int(rest[0]) if rest else 0)


def _claimed(model: ModelName, row: list[Any]) -> Claimed:
    id, lease, seq, attempt, deadline, request, submitted, leases = row
    numbers = (Seq(int(seq)), int(attempt), int(deadline))
    return Claimed(id, model, lease, *numbers, decode_request(request), int(submitted), leases)


async def step(
    broker: Broker, model: ModelName, worker: WorkerId, steps: Sequence[JobStep]
) -> list[tuple[StepAnswer, Seq]]:
    """Returns the answers of `advance`, for whoever claims nothing."""
    return (await advance(broker, model, worker, steps)).answers


async def advance(broker: Broker, model: ModelName, worker: WorkerId, steps: Sequence[JobStep]) -> StepReply:
    """Logs and announces what one engine step made, for all jobs at once. Sent again after a lost reply it changes
    nothing."""
    args = StepArgs(worker=worker, ids=[step.id for step in steps])
    answers, waits = await broker.run(STEP, model, args, [step[1:] for step in steps])
    return StepReply([(answer, Seq(int(seq))) for answer, seq in answers], waits == 1)


async def handoff(broker: Broker, model: ModelName, worker: WorkerId, jobs: Sequence[tuple[JobId, Lease]]) -> list[str]:
    """Gives jobs back without counting an attempt; also all that lies unclaimed in the worker's inbox."""
    return await broker.run(HANDOFF, model, WorkerArgs(worker=worker), jobs)


async def preempt(broker: Broker, model: ModelName, worker: WorkerId, jobs: Sequence[tuple[JobId, Lease]]) -> list[str]:
    """Gives jobs back that were asked for, without counting an attempt; the inbox stays."""
    return await broker.run(PREEMPT, model, WorkerArgs(worker=worker), jobs)


async def retry(
    broker: Broker,
    model: ModelName,
    worker: WorkerId,
    jobs: Sequence[tuple[JobId, Lease]],
    attempts: int,
    max_attempts: int,
) -> list[str]:
    """Gives jobs back whose work was lost without the worker's dying; `attempts` counts as when a worker died."""
    args = RetryArgs(worker=worker, attempts=attempts, max_attempts=max_attempts)
    return await broker.run(RETRY, model, args, jobs)


async def pass_on(broker: Broker, job: Claimed, room: int) -> int | None:
    """Gives a job that has no tokens yet to a worker whose context holds `room` tokens. Returns the longest context
    there is if none does, else None: the job is another's now."""
    args = PassArgs(worker=job.worker, id=job.id, lease=job.lease, room=room)
    status, *rest = await broker.run(PASS, job.model, args)
    return int(rest[0]) if status == "none" else None


async def withdraw(broker: Broker, model: ModelName, worker: WorkerId) -> None:
    """Leaves in good order: what it still holds moves on without counting an attempt."""
    while not await _evict(broker, model, worker, force=True, attempts=0, max_attempts=0):
        pass


async def evict_now(broker: Broker, model: ModelName, worker: WorkerId, max_attempts: int) -> None:
    """Takes a worker's work back at once: its supervisor saw it die."""
    while not await _evict(broker, model, worker, force=True, attempts=1, max_attempts=max_attempts):
        pass


async def evict_stale(broker: Broker, model: ModelName, max_attempts: int) -> WorkerId | None:
    """Takes the work of one worker whose lease ran out; returns the worker (perhaps not yet wholly) evicted."""
    args = EvictArgs(worker="", force=0, attempts=1, max_attempts=max_attempts)
    status, *rest = await broker.run(EVICT, model, args)
    return WorkerId(rest[1]) if status == "ok" and rest[1] else None


async def _evict(
    broker: Broker, model: ModelName, worker: WorkerId, *, force: bool, attempts: int, max_attempts: int
) -> bool:
    args = EvictArgs(worker=worker, force=int(force), attempts=attempts, max_attempts=max_attempts)
    _, _, _, done = await broker.run(EVICT, model, args)
    return bool(done)
