"""Tells a job's owner of its life, from what Redis has of it."""

import shlex
from itertools import zip_longest

from millstream.common.broker.models.ended_jobs import EndedJob
from millstream.common.broker.models.inspection import DeadJob
from millstream.common.broker.models.job_pages import JobLife
from millstream.common.broker.models.preempted_jobs import PreemptedJob
from millstream.common.leases import LeaseSpan
from millstream.gateway.apis.admin.cluster.shape import JobSummary, Why
from millstream.gateway.apis.admin.cluster.view import job_summary
from millstream.gateway.apis.admin.jobs.shape import (
    DeadJobInfo,
    JobDetail,
    JobLease,
    JobMove,
    JobUsage,
    PreemptedJobInfo,
)
from millstream.gateway.queue.client import Waiting

WHOLE = 65536  # bytes of a dead job's request that are kept: one of so many may be cut


def job_detail(life: JobLife, waiting: Waiting | None, reason: Why) -> JobDetail:
    """Returns everything but what was asked and answered."""
    fields, leases, submitted = life.fields, life.leases, life.moment("submitted")
    first = leases[0].since if leases else life.moment("settled") or life.now
    return JobDetail(
        id=life.id,
        model=life.model,
        tenant=life.tenant,
        tier=life.tier,
        state=life.state,
        at=life.now,
        submitted=submitted,
        claimed=life.moment("claimed"),
        deadline=life.moment("deadline"),
        settled=life.moment("settled"),
        waited=None if submitted is None else round(first - submitted, 3),
        position=waiting.position if waiting else None,
        wait=waiting.wait if waiting else None,
        why=reason,
        worker=fields.get("worker", "") if life.state == "running" else "",
        lease=fields.get("lease", ""),
        leases=[_lease(span) for span in leases],
        seams=sum(span.after > 0 for span in leases[1:]),
        attempt=int(fields.get("attempt") or 0),
        chunks=life.seq,
        finish=fields.get("finish", ""),
        usage=JobUsage.model_validate(life.usage) if life.moment("settled") else None,
        error=fields.get("error", ""),
        resumable=fields.get("resumable") == "1",
        wanted=next((name for name in ("cancel", "preempt") if fields.get(name)), ""),
        keys=life.keys,
        redis_cli=_lines(life.keys),
    )


def _lease(span: LeaseSpan) -> JobLease:
    return JobLease(
        lease=span.lease,
        worker=span.worker,
        after_chunk=span.after,
        since=span.since,
        until=span.until,
        preempted=span.preempted,
    )


def _lines(keys: dict[str, str]) -> list[str]:
    commands = {"job": "HGETALL {}", "chunks": "XREVRANGE {} + - COUNT 5", "fences": "HGETALL {}"}
    found = [(commands.get(name, "XRANGE {} - +"), shlex.quote(key)) for name, key in keys.items()]
    return [f"redis-cli {command.format(key)}" for command, key in found]


def dead_job(found: DeadJob) -> DeadJobInfo:
    """Returns a dead job without its request."""
    return DeadJobInfo(
        id=found.id,
        model=found.model,
        tenant=found.tenant,
        died=found.when,
        reason=found.reason,
        can_requeue=bool(found.request) and len(found.request.encode()) < WHOLE,
    )


def preempted_job(found: PreemptedJob) -> PreemptedJobInfo:
    """Returns a preempted job with each time that it gave up its slot."""
    pairs = zip_longest(found.leases, found.leases[1:])
    return PreemptedJobInfo(
        id=found.job.id,
        model=found.job.model,
        tenant=found.job.tenant,
        tier=found.job.tier,
        state=found.job.state,
        moves=[_move(span, then, found.job.seq) for span, then in pairs if span.preempted],
    )


def _move(span: LeaseSpan, then: LeaseSpan | None, seq: int) -> JobMove:
    """Returns how one lease gave way to the next one."""
    after, to, since = (then.after, then.worker, then.since) if then else (seq, "", None)
    return JobMove(worker=span.worker, at=span.until or span.since, after_chunk=after, to=to, since=since)


def ended_summary(found: EndedJob) -> JobSummary:
    """Returns a job that is over, as lists show it."""
    told = {"ended": found.ended, "finish": found.finish, "tokens": found.tokens, "error": found.error}
    return job_summary(found.job, "").model_copy(update=told)


def dead_summary(found: DeadJob, now: float) -> JobSummary:
    """Returns a job that killed its workers, as lists show it. What is kept of it is little."""
    return JobSummary(
        id=found.id,
        model=found.model,
        state="dead",
        worker="",
        tenant=found.tenant,
        tier="",
        attempt=0,
        chunks=0,
        age=round(now - found.when, 2),
        deadline_in=0.0,
        why="",
        ended=found.when,
        finish="error",
        error=found.reason,
    )
