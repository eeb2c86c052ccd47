"""`GET /v1/jobs`, `GET /v1/jobs/dead`, `/preempted` and `/{id}`, `POST /v1/jobs/{id}/cancel` and `/requeue`."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query

from millstream.common.broker.models.inspection import LiveJob
from millstream.common.broker.models.job_pages import JobFilter, JobLife
from millstream.common.broker.models.overview import ModelOverview
from millstream.common.errors import BadRequest, NotFound
from millstream.common.job import ModelName
from millstream.gateway.apis.admin.cluster.examples import SUMMARY
from millstream.gateway.apis.admin.cluster.route import feed_of
from millstream.gateway.apis.admin.cluster.shape import JobSummary, Why
from millstream.gateway.apis.admin.cluster.view import AWAY, job_summary, why
from millstream.gateway.apis.admin.jobs.examples import ACTION, DEAD, DETAIL, PREEMPTED
from millstream.gateway.apis.admin.jobs.requeue import requeue_dead
from millstream.gateway.apis.admin.jobs.shape import (
    DeadJobList,
    JobAction,
    JobDetail,
    JobList,
    JobQuery,
    PreemptedJobList,
)
from millstream.gateway.apis.admin.jobs.view import dead_job, dead_summary, ended_summary, job_detail, preempted_job
from millstream.gateway.apis.admin.viewer import InOperations, InViewer, Viewer, operations_of
from millstream.gateway.apis.shared.examples import answers, listed
from millstream.gateway.services.operations import Operations
from millstream.gateway.services.services import InServices, Services

router = APIRouter(tags=["jobs"])
Overviews = dict[ModelName, ModelOverview]


async def _overviews(services: Services, viewer: Viewer, model: str | None) -> Overviews:
    """Returns the models that the viewer may see, or the one asked for. Raises `BadRequest` if it may not see that."""
    found = (await feed_of(services).now()).overview
    seen = {each.info.name: each for each in (found.models if found else []) if viewer.may_use(each.info.name)}
    if model is None:
        return seen
    name = await services.model(model)
    if name not in seen:
        there = ", ".join(f"'{each}'" for each in seen) or "none yet"
        raise BadRequest(f"Invalid 'model': '{model[:80]}' is not known here. Known: {there}.", param="model")
    return {name: seen[name]}


@router.get("/v1/jobs", summary="List the jobs", responses=listed(SUMMARY))
async def list_jobs(
    viewer: InViewer, services: InServices, operations: InOperations, asked: Annotated[JobQuery, Query()]
) -> JobList:
    """Lists jobs that wait or run, model by model, the next to reach its deadline first, with what each waits for and
    its place. With one of the other states it lists those that ended, the newest first, for as long as they are kept:
    of each model the newest 10,000, and of a tenant the newest 1,000. A tenant sees its own."""
    models = await _overviews(services, viewer, asked.model)
    wanted = JobFilter(asked.state or "", viewer.wanted(asked.tenant))
    if asked.state == "dead":
        return await _dead(services, viewer, models, asked)
    if asked.state not in (None, "queued", "running"):
        ending = JobFilter("" if asked.state == "ended" else asked.state, wanted.tenant)
        over = await operations.ended(list(models), ending, asked.after, asked.limit + 1)
        return _page([ended_summary(each) for each in over.jobs], asked.limit, _told(over.away, viewer))
    found = await operations.page(list(models), wanted, asked.after, asked.limit + 1)
    places = await operations.places(found.jobs[: asked.limit])
    told = [job_summary(job, why(job, models[job.model]), places.get(job.id)) for job in found.jobs]
    return _page(told, asked.limit, _told(found.away, viewer))


def _page(found: list[JobSummary], limit: int, away: dict[str, str]) -> JobList:
    """Returns OpenAI's list; `found` holds one more than `limit` if there are more."""
    data = found[:limit]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return JobList(data=data, first_id=first, last_id=last, has_more=len(found) > limit, away=away)


def _told(away: Mapping[ModelName, str], viewer: Viewer) -> dict[str, str]:
    """Returns why the jobs of some models are missing: where the servers are is for admins."""
    return {model: why if viewer.admin else AWAY for model, why in away.items()}


async def _dead(services: Services, viewer: Viewer, models: Overviews, asked: JobQuery) -> JobList:
    sight = (await feed_of(services).now()).overview
    dead = await operations_of(services).dead(list(models), viewer.wanted(asked.tenant))
    found = [dead_summary(each, sight.at if sight else each.when) for each in dead.jobs]
    return _page(_rest([each.id for each in found], found, asked.after), asked.limit, _told(dead.away, viewer))


T = TypeVar("T")


def _rest(ids: list[str], found: list[T], after: str | None) -> list[T]:
    """Returns what comes after a dead job. Raises `BadRequest` where there is no such job."""
    if after is None:
        return found
    if after not in ids:
        raise BadRequest(f"Invalid 'after': there is no dead job '{after[:80]}'.", param="after")
    return found[ids.index(after) + 1 :]


@router.get("/v1/jobs/dead", summary="List the jobs that killed their workers", responses=listed(DEAD))
async def list_dead_jobs(
    viewer: InViewer,
    services: InServices,
    operations: InOperations,
    model: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> DeadJobList:
    """Lists the newest first; a tenant sees its own. They are kept for an operator, a thousand for each model."""
    models = await _overviews(services, viewer, model)
    every = [dead_job(each) for each in (await operations.dead(list(models), viewer.scope)).jobs]
    found = _rest([each.id for each in every], every, after)
    data = found[:limit]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return DeadJobList(data=data, first_id=first, last_id=last, has_more=len(found) > limit)


@router.get("/v1/jobs/preempted", summary="List the jobs that gave up their slots", responses=listed(PREEMPTED))
async def list_preempted_jobs(
    viewer: InViewer,
    services: InServices,
    operations: InOperations,
    model: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> PreemptedJobList:
    """Lists jobs that gave up their slots to others, with the workers on which they went on and their next token there;
    a tenant sees its own. Of each model the newest 1,000 are listed, for as long as their streams are kept."""
    models = await _overviews(services, viewer, model)
    found = await operations.preempted(list(models), viewer.scope, after, limit + 1)
    data = [preempted_job(job) for job in found.jobs[:limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    more = len(found.jobs) > limit
    return PreemptedJobList(data=data, first_id=first, last_id=last, has_more=more, away=_told(found.away, viewer))


@router.get("/v1/jobs/{id}", summary="One job's life", responses=answers(DETAIL))
async def read_job(id: str, viewer: InViewer, services: InServices, operations: InOperations) -> JobDetail:
    """Returns its waits, leases and seams, its tokens, who holds it and its keys in Redis, until its stream is
    forgotten. Another tenant's job is not found."""
    life = await operations.find(id, viewer.scope)
    live = live_part(life)
    waiting = (await operations.places([live])).get(life.id)
    return job_detail(life, waiting, await _why(services, life, live))


async def _why(services: Services, life: JobLife, live: LiveJob) -> Why:
    found = (await feed_of(services).now()).overview if life.state == "queued" else None
    model = next((each for each in found.models if each.info.name == life.model), None) if found else None
    return why(live, model) if model else ""


def live_part(life: JobLife) -> LiveJob:
    """Returns the job as lists show it."""
    age, left = life.now - (life.moment("submitted") or life.now), (life.moment("deadline") or life.now) - life.now
    worker, attempt = life.fields.get("worker", ""), int(life.fields.get("attempt") or 0)
    return LiveJob(life.id, life.model, life.state, worker, life.tenant, life.tier, attempt, life.seq, age, left)


@router.post("/v1/jobs/{id}/cancel", summary="Cancel a job", responses=answers(ACTION | {"status": "cancelling"}))
async def cancel_job(id: str, viewer: InViewer, operations: InOperations) -> JobAction:
    """Stops one job, waiting or running: of the caller's tenant, for admins of any. Cancelling twice, or soon after the
    end, is fine. `POST /v1/requests/{id}/cancel` stops all jobs of a request."""
    life = await operations.find(id, viewer.scope)
    return JobAction(id=id, status=await operations.cancel(life))


@router.post(
    "/v1/jobs/{id}/requeue",
    summary="Give a job to another worker, or a dead one another try",
    responses=answers(ACTION),
)
async def requeue_job(id: str, viewer: InViewer, services: InServices, operations: InOperations) -> JobAction:
    """A running job is taken from its worker and goes on from its next token, on the next free slot; its reader sees
    nothing of it. A dead job's request is submitted again, as a new job. For admins."""
    viewer.check_admin("requeue jobs")
    life = await _found(operations, id)
    if life is not None and life.state in ("running", "queued"):
        return JobAction(id=id, status=await operations.recall(life))
    models = await _overviews(services, viewer, None)
    dead = next((each for each in (await operations.dead(list(models), "")).jobs if each.id == id), None)
    if dead is not None:
        return JobAction(id=await requeue_dead(services, dead), status="queued", requeued_from=id)
    if life is not None:
        raise BadRequest(
            f"The job '{id[:80]}' has ended ({life.state}); only running and dead jobs go back.", param="id"
        )
    raise NotFound(f"There is no job '{id[:80]}'.", param="id")


async def _found(operations: Operations, id: str) -> JobLife | None:
    try:
        return await operations.find(id, "")
    except NotFound:
        return None
