"""Jobs as they are told to browsers and tools."""

from typing import Literal

from pydantic import BaseModel, Field

from millstream.gateway.apis.admin.cluster.shape import JobSummary


class JobQuery(BaseModel):
    """The jobs that a list is to show, and which page of them."""

    state: Literal["queued", "running", "ended", "finished", "failed", "cancelled", "expired", "dead"] | None = Field(
        default=None, description="Those that wait or run if left out; `ended`: whatever the end was."
    )
    model: str | None = None
    tenant: str | None = Field(default=None, description="For admins: another tenant.")
    after: str | None = Field(default=None, description="The last id of the page before.")
    limit: int = Field(default=20, ge=1, le=100)


class JobList(BaseModel):
    """One page of jobs."""

    object: Literal["list"] = "list"
    data: list[JobSummary]
    first_id: str | None
    last_id: str | None
    has_more: bool
    away: dict[str, str] = Field(
        default={}, description="Models whose jobs are missing here because their Redis server is away, and why."
    )


class JobLease(BaseModel):
    """One worker's time with the job. Where a lease follows another there is a seam: the answer went on at
    `after_chunk` + 1, and nothing before it was lost or said again."""

    lease: str
    worker: str
    after_chunk: int = Field(description="Chunks that were in the log when it began.")
    since: float = Field(description="Redis' clock, seconds since the epoch.")
    until: float | None = Field(description="When it was taken back; null: it lasts, or the job ended with it.")
    preempted: bool = Field(default=False, description="Its worker gave the job up because it was asked to.")


class JobUsage(BaseModel):
    """Tokens of a job that ended."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0


class JobDetail(BaseModel):
    """A job's whole life. It tells nothing of what was asked and answered."""

    id: str
    object: Literal["job"] = "job"
    model: str
    tenant: str
    tier: str
    state: str
    at: float = Field(description="Redis' clock now; all times are in its seconds since the epoch.")
    submitted: float | None
    claimed: float | None = Field(description="When the present lease, or the last, was granted.")
    deadline: float | None
    settled: float | None
    waited: float | None = Field(description="Seconds from its submission to its first lease, or until now.")
    position: int | None = Field(description="Place in the queue, 1 is next; null: it does not wait.")
    wait: float | None = Field(description="Seconds until it may begin; null: not known.")
    why: str = Field(description="What it waits for, as in `/v1/cluster`.")
    worker: str = Field(description="The worker that holds it; empty if none does.")
    lease: str
    leases: list[JobLease]
    seams: int = Field(description="How often it went on under another lease in mid-answer.")
    attempt: int = Field(description="Workers that died with it and had not got further.")
    chunks: int
    finish: str
    usage: JobUsage | None
    error: str
    resumable: bool
    wanted: str = Field(description="`cancel` or `preempt`, if its worker is asked for that.")
    keys: dict[str, str] = Field(description="The Redis keys in which it is.")
    redis_cli: list[str] = Field(description="Lines to paste that show them.")


class JobAction(BaseModel):
    """The outcome of an operator's wish."""

    id: str = Field(description="The job; of a dead one the job that was submitted in its place.")
    object: Literal["job"] = "job"
    status: str = Field(description="`cancelled`, `cancelling`, `requeueing`, `queued`, or the state it had already.")
    requeued_from: str | None = None


class JobMove(BaseModel):
    """One time that a job gave up its slot, and where it went on."""

    worker: str = Field(description="The worker that gave it up.")
    at: float = Field(description="Redis' clock, seconds since the epoch.")
    after_chunk: int = Field(description="Chunks that were in the log; it goes on with the next one.")
    to: str = Field(description="The worker on which it went on; empty: it waits, or ended before.")
    since: float | None = Field(description="When it went on.")


class PreemptedJobInfo(BaseModel):
    """A job that gave up its slot to a more urgent one, to another tenant's, or because an operator asked for it."""

    id: str
    object: Literal["preempted_job"] = "preempted_job"
    model: str
    tenant: str
    tier: str
    state: str
    moves: list[JobMove] = Field(description="The oldest first.")


class PreemptedJobList(BaseModel):
    """One page of preempted jobs; of each model the one that gave up its slot last comes first."""

    object: Literal["list"] = "list"
    data: list[PreemptedJobInfo]
    first_id: str | None
    last_id: str | None
    has_more: bool
    away: dict[str, str] = Field(
        default={}, description="Models whose jobs are missing here because their Redis server is away, and why."
    )


class DeadJobInfo(BaseModel):
    """A job that was given up because its workers kept dying."""

    id: str
    object: Literal["dead_job"] = "dead_job"
    model: str
    tenant: str
    died: float = Field(description="Redis' clock, seconds since the epoch.")
    reason: str
    can_requeue: bool = Field(description="Its request was short enough to be kept whole.")


class DeadJobList(BaseModel):
    """One page of dead jobs, the newest first."""

    object: Literal["list"] = "list"
    data: list[DeadJobInfo]
    first_id: str | None
    last_id: str | None
    has_more: bool
