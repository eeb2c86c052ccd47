"""Tells one viewer of a look at the cluster, as far as that viewer may see it."""

from millstream.common.broker.models.directory import WorkerInfo
from millstream.common.broker.models.inspection import LiveJob, ServerFacts
from millstream.common.broker.models.overview import ModelOverview, Overview
from millstream.gateway.apis.admin.cluster.shape import (
    ClusterModel,
    ClusterState,
    ClusterWorker,
    JobSummary,
    RedisHealth,
    TenantQueue,
    ViewerInfo,
    Why,
)
from millstream.gateway.apis.admin.viewer import Viewer
from millstream.gateway.queue.client import Waiting
from millstream.gateway.queue.wait_estimate import estimate, service
from millstream.gateway.services.cluster_feed import Sight

LOWER = ("flex", "batch")
AWAY = "the queue (Redis) does not answer"
Rates = dict[tuple[str, str], float]


def cluster_state(sight: Sight, viewer: Viewer, *, local_workers: bool) -> ClusterState:
    """Returns what the viewer may see."""
    found = sight.overview
    models = [model for model in found.models if viewer.admin or viewer.may_use(model.info.name)] if found else []
    told = [cluster_model(model, sight.rates, viewer) for model in models]
    return ClusterState(
        at=found.at if found else 0.0,
        viewer=ViewerInfo(tenant=viewer.tenant, admin=viewer.admin, local_workers=local_workers and viewer.admin),
        redis=redis_health(found, sight.error, viewer),
        tokens_per_second=round(sum(model.tokens_per_second for model in told), 1),
        models=told,
        workers=[_worker(model, worker, sight.rates, viewer) for model in models for worker in model.info.workers],
        queues=[queue for model in models for queue in _queues(model, viewer)],
        jobs=[
            job_summary(job, why(job, model), sight.places.get(job.id))
            for model in models
            for job in model.jobs
            if viewer.sees(job.tenant)
        ],
    )


def redis_health(found: Overview | None, error: str, viewer: Viewer) -> RedisHealth:
    """Returns how the server is. Its set-up, and an error that may name its address, are for administrators."""
    if error or found is None:
        return RedisHealth(ok=False, error=error if viewer.admin else AWAY)
    took = round(found.round_trip * 1000, 2)
    return _set_up(found.server, took) if viewer.admin else RedisHealth(ok=True, round_trip_ms=took)


def _set_up(server: ServerFacts, took: float) -> RedisHealth:
    return RedisHealth(
        ok=True,
        round_trip_ms=took,
        version=server.version,
        role=server.role,
        append_only=server.append_only,
        fsync=server.fsync,
        eviction=server.eviction,
        memory_bytes=server.memory_bytes,
        memory_limit=server.memory_limit,
        clients=server.clients,
        commands_per_second=server.commands_per_second,
    )


def cluster_model(model: ModelOverview, rates: Rates, viewer: Viewer) -> ClusterModel:
    """Returns a model with its sums."""
    info = model.info
    alive = [worker for worker in info.workers if worker.alive]
    slots, held = sum(worker.slots for worker in alive), sum(worker.load for worker in alive)
    made = sum(rates.get((worker.model, worker.id), 0.0) for worker in alive)
    rate = service(info).rate
    return ClusterModel(
        id=info.name,
        engine=info.engine,
        context_length=info.context_length,
        capabilities=list(info.capabilities),
        system_fingerprint=info.fingerprint,
        exactness=info.exactness,
        workers=info.live,
        slots=slots,
        running=held,
        waiting=info.waiting,
        live_jobs=model.live if viewer.admin else None,
        dead_jobs=model.dead if viewer.admin else None,
        tokens_per_second=round(made, 1),
        policy=model.policy.rule,
        reserve=model.policy.reserve,
        fenced=model.fenced,
        loading=model.loading,
        away=info.away and (info.away if viewer.admin else AWAY),
        wait=0.0 if held < slots else estimate(info.waiting + 1, rate),
    )


def _worker(model: ModelOverview, worker: WorkerInfo, rates: Rates, viewer: Viewer) -> ClusterWorker:
    details = worker.details
    return ClusterWorker(
        id=worker.id,
        model=worker.model,
        state=details.get("state", "ready") if worker.alive else "dead",
        alive=worker.alive,
        engine=details.get("engine", ""),
        slots=worker.slots,
        load=worker.load,
        running=_number(details, "running"),
        speed=worker.speed,
        tokens_per_second=round(rates.get((worker.model, worker.id), 0.0), 1),
        tokens=_number(details, "tokens"),
        kv_use=float(details.get("kv_use") or 0),
        prefix_hit_rate=float(details.get("prefix_hit_rate") or 0),
        lease_left=round(model.leases.get(worker.id, 0.0), 2),
        started=worker.started,
        version=details.get("version", ""),
        host=details.get("host") if viewer.admin else None,
        pid=_number(details, "pid") if viewer.admin else None,
    )


def _number(details: dict[str, str], name: str) -> int:
    return int(float(details.get(name) or 0))


def _queues(model: ModelOverview, viewer: Viewer) -> list[TenantQueue]:
    shown = [queue for queue in model.queues if viewer.sees(queue.tenant)]
    return [
        TenantQueue(model=model.info.name, tier=q.tier, tenant=q.tenant, waiting=q.waiting, served=q.served)
        for q in shown
    ]


def why(job: LiveJob, model: ModelOverview) -> Why:
    """Returns what a waiting job waits for."""
    if job.state != "queued":
        return ""
    alive = [worker for worker in model.info.workers if worker.alive]
    if not alive:
        return "loading" if model.loading else "no_worker"
    takers = [worker for worker in alive if worker.details.get("state", "ready") == "ready"]
    if not takers:
        return "workers_not_ready"
    if all(worker.load >= worker.slots for worker in takers):
        return "all_slots_busy"
    return "reserved" if job.tier in LOWER and model.policy.reserve else "next"


def job_summary(job: LiveJob, reason: Why, waiting: Waiting | None = None) -> JobSummary:
    """Returns a live job; `waiting`: its place in the queue, if that was looked up."""
    return JobSummary(
        id=job.id,
        model=job.model,
        state=job.state,
        worker=job.worker,
        tenant=job.tenant,
        tier=job.tier,
        attempt=job.attempt,
        chunks=job.seq,
        age=round(job.age, 2),
        deadline_in=round(job.left, 2),
        why=reason,
        position=waiting.position if waiting else None,
        wait=waiting.wait if waiting else None,
    )
