"""Is the process there, can it serve, what does it count."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from millstream.common.errors import Forbidden, MillstreamError
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.http.drain import STOPPING, draining
from millstream.gateway.http.metrics_text import metrics_text
from millstream.gateway.services.services import InServices, tenant_of

NO_REDIS = "the queue (Redis) does not answer; this gateway's log says why"

log = structlog.stdlib.get_logger(part="http")
router = APIRouter(tags=["health"])


@router.get("/health", summary="Is this process alive", responses=answers({"status": "ok"}))
async def health() -> dict[str, str]:
    """Needs no key, asks nothing of Redis."""
    return {"status": "ok"}


@router.get(
    "/ready", summary="Can a request be served now", responses=answers({"status": "ready", "redis": True, "workers": 1})
)
async def ready(request: Request, services: InServices) -> JSONResponse:
    """Answers 200 if Redis answers and at least one worker is alive (it may load its model when it is asked for), else
    503 saying which is missing; 503 as well once this process has been told to stop."""
    try:
        await services.cluster.directory.ping()
        models = await services.cluster.directory.models()
    except MillstreamError as error:
        log.info("not_ready", error=error.message)  # which may name Redis's address: not for everybody who asks
        return _readiness(False, redis=False, workers=0, reason=NO_REDIS)
    workers = sum(model.live for model in models) or len({each.worker for model in models for each in model.loaders})
    if draining(request.app):
        return _readiness(False, redis=True, workers=workers, reason=STOPPING)
    reason = "" if workers else "no live worker: start one with `millstream worker --model ...`"
    return _readiness(workers > 0, redis=True, workers=workers, reason=reason)


def _readiness(ready: bool, *, redis: bool, workers: int, reason: str) -> JSONResponse:
    body: dict[str, Any] = {"status": "ready" if ready else "not ready", "redis": redis, "workers": workers}
    if reason:
        body["reason"] = reason
    return JSONResponse(body, status_code=200 if ready else 503)


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    responses={200: {"content": {"text/plain": {}}}},
    response_class=Response,
)
async def metrics(request: Request, services: InServices) -> Response:
    """Returns this process's counters, and the cluster's figures as its workers' heartbeats tell them: workers open no
    port. They name every tenant, so where keys are demanded only those of the tenants in `admins` may read them."""
    if await services.keys.demanded() and tenant_of(request) not in services.settings.admins:
        raise Forbidden(
            "Only keys of the tenants in the setting `admins` may read /metrics, which tells of every tenant. The "
            "setting metrics_port (MILLSTREAM_METRICS_PORT) opens a port for Prometheus that needs no key."
        )
    return Response(await metrics_text(services), media_type=CONTENT_TYPE_LATEST)


@router.get("/version", summary="Which Millstream this is", responses=answers({"version": "0.1.0"}))
async def version() -> dict[str, str]:
    """Returns the version of the gateway."""
    return {"version": release()}


def release() -> str:
    """Returns the installed package's version; a source tree that was never installed has none."""
    try:
        return installed_version("millstream")
    except PackageNotFoundError:
        return "0.0.0+source"
