"""All that Prometheus scrapes of one gateway process, and the port of its own that it may be scraped from."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from millstream.common.errors import MillstreamError
from millstream.common.process.addresses import loopback
from millstream.gateway.access.browsers import known_host
from millstream.gateway.http.backlog_metrics import backlog_text
from millstream.gateway.http.batch_metrics import batch_text
from millstream.gateway.http.cluster_metrics import cluster_text
from millstream.gateway.http.redis_metrics import redis_text
from millstream.gateway.services.cluster import ClusterServices
from millstream.gateway.services.services import Services
from millstream.gateway.settings import GatewaySettings

log = structlog.stdlib.get_logger(part="metrics")


async def metrics_text(services: Services) -> bytes:
    """This process's counters and the cluster's figures; without Redis its own alone."""
    cluster = services.cluster
    try:
        models = await cluster.directory.models()
        told = cluster_text(models) + await batch_text(cluster.batches)
        if cluster.backlogs is not None:
            told += backlog_text(await cluster.backlogs(), models)
    except MillstreamError:
        told = b""
    return services.metrics.text() + told + await _of_redis(cluster)


async def _of_redis(cluster: ClusterServices) -> bytes:
    """Nothing where Redis is away, or forbids INFO: the rest is told all the same."""
    try:
        return redis_text(await cluster.servers() if cluster.servers is not None else [])
    except MillstreamError:
        return b""


@asynccontextmanager
async def metrics_port(settings: GatewaySettings, services: Services) -> AsyncGenerator[None]:
    """Serves `/metrics` on the port of the settings, if they name one, as long as the block runs. Raises `OSError`."""
    if settings.metrics_port is None:
        yield
        return
    with _listen(settings) as listener:
        server = _InnerServer(_config(_page(settings, services)))
        task = asyncio.create_task(server.serve([listener]), name="metrics")
        log.info("metrics_listening", host=settings.metrics_host, port=listener.getsockname()[1])
        try:
            yield
        finally:
            server.should_exit = True
            await task


def _listen(settings: GatewaySettings) -> socket.socket:
    """Each process of a gateway takes the first port that is free, from `metrics_port` on."""
    assert settings.metrics_port is not None
    family = socket.AF_INET6 if ":" in settings.metrics_host else socket.AF_INET
    last = settings.metrics_port + settings.processes - 1
    for port in range(settings.metrics_port, last + 1):
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.metrics_host, port))
        except OSError as error:
            listener.close()
            if port == last:
                message = f"Cannot listen on {settings.metrics_host} port {port} for /metrics (metrics_port): {error}"
                raise OSError(error.errno, message) from error
        else:
            listener.listen()
            return listener
    raise AssertionError("a range of at least one port")


def _page(settings: GatewaySettings, services: Services) -> ASGIApp:
    """Answers `GET /metrics` alone. On loopback only when asked as this machine, as other names may be a trap (DNS
    rebinding)."""
    names = frozenset(settings.allowed_hosts) if loopback(settings.metrics_host) else frozenset(("*",))

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if not all(known_host(host, names) for host in hosts):
            response: Response = PlainTextResponse("asked by a name that is not in allowed_hosts\n", 403)
        elif scope["path"].rstrip("/") != "/metrics":
            response = PlainTextResponse("here is only /metrics\n", 404)
        elif scope["method"] not in ("GET", "HEAD"):
            response = PlainTextResponse("only GET\n", 405, {"allow": "GET, HEAD"})
        else:
            response = Response(await metrics_text(services), media_type=CONTENT_TYPE_LATEST)
        await response(scope, receive, send)

    return page


def _config(page: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        page, lifespan="off", log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=1
    )


class _InnerServer(uvicorn.Server):
    """A server beside the one that hears the signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield
