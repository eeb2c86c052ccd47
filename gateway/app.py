"""The gateway's composition root: settings in, a FastAPI app out, and the server that runs it."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from millstream.common.process.tasks import tell_why_it_ends
from millstream.common.tracing.opening import traced
from millstream.gateway.access.authentication import check_exposure
from millstream.gateway.access.browsers import browser_rules
from millstream.gateway.access.static_keys import keys_of
from millstream.gateway.apis.registry import DIALECTS
from millstream.gateway.apis.shared.examples import MISSING, failures
from millstream.gateway.connection.protocol import BoundedHeadProtocol
from millstream.gateway.connection.sse import DrainNotifier
from millstream.gateway.http.app import DirectApp
from millstream.gateway.http.drain import CLOSE_GRACE, DrainingServer, RefuseWhileDraining
from millstream.gateway.http.exception_handlers import handle_faults
from millstream.gateway.http.health import release
from millstream.gateway.http.json_dispatch import JsonDispatch
from millstream.gateway.http.metrics_text import metrics_port
from millstream.gateway.http.middleware import AccessLog, Authentication, ForeignPages, SizeLimits
from millstream.gateway.http.normalize import PathNormalization
from millstream.gateway.http.routes import ROUTERS, SERVED
from millstream.gateway.http.tracing import TraceRequests
from millstream.gateway.services.aliases import parse_aliases
from millstream.gateway.services.background_tasks import BackgroundTasks
from millstream.gateway.services.cluster import Connect
from millstream.gateway.services.image_fetcher import ImageFetcher
from millstream.gateway.services.metrics import Metrics
from millstream.gateway.services.model_defaults import ModelDefaults
from millstream.gateway.services.services import Services
from millstream.gateway.settings import GatewaySettings

EXPOSED = [  # headers that a browser's script may read
    *("x-request-id", "openai-processing-ms", "openai-model", "retry-after", "x-millstream-request"),
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")),
    *("x-millstream-queue-position", "x-millstream-queue-wait", "x-millstream-workers"),
]
SLOW_START = 20  # seconds one of several processes may take to answer its parent: on a busy machine it still imports
BACKLOG = 4096  # connections that may wait to be accepted
SPARE_HEAD = 2**18  # bytes a connection may send beyond the limit on heads, so that the app can refuse them itself
HEARING = ("/v1/audio/transcriptions", "/v1/audio/translations")
FORM_BYTES = 65536  # what a form holds beside its file
log = structlog.stdlib.get_logger(part="gateway")
DESCRIPTION = "An OpenAI-compatible inference cluster on Redis streams. Streams survive the death of any process."


def create_app(settings: GatewaySettings, connect: Connect, failed: Callable[[], None] | None = None) -> FastAPI:
    """Returns the app. `connect(settings)` is entered when the server starts and left when it stops, with nothing open
    any more; if it ends before that, the log says why, `app.state.failure` is the process's exit status, and `failed`
    is called. Raises `ValueError` for settings that contradict themselves or would serve strangers."""
    keys = keys_of(settings)
    aliases = parse_aliases(settings.aliases)
    metrics, drain_notifier = Metrics(), DrainNotifier(settings.drain)
    images = ImageFetcher(settings.image_hosts, settings.max_image_bytes)
    check_exposure(settings, keyed=bool(keys.records))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        try:
            async with connect(settings) as cluster, BackgroundTasks() as background_tasks, drain_notifier:
                here = (aliases, metrics, background_tasks, drain_notifier, images, ModelDefaults(cluster.directory))
                services = Services(settings, cluster, cluster.keys or keys, *here)
                app.state.services = services
                if cluster.spans is not None:
                    cluster.spans.tell_lost(metrics.spans_lost.inc)
                if cluster.tell_times is not None:
                    cluster.tell_times(metrics.observe)
                async with metrics_port(settings, services):
                    yield
        except ExceptionGroup as group:
            app.state.failure = tell_why_it_ends(log, group)
            if failed is not None:
                failed()

    named = {"title": "Millstream", "description": DESCRIPTION, "version": release()}
    app = DirectApp(DIALECTS, **named, openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.drain_notifier, app.state.failure = drain_notifier, 0
    for api in SERVED:
        app.include_router(api.router, responses=failures(api.dialect.error_body(MISSING)))
    handle_faults(app, [route for api in SERVED for route in api.router.routes])
    _surround(app, settings, metrics)
    return app


def _surround(app: DirectApp, settings: GatewaySettings, metrics: Metrics) -> None:
    """Adds the middleware. The last one added is the outermost: a browser's preflight request carries no key."""
    uploads = {"/v1/files": settings.max_file_bytes + FORM_BYTES}
    uploads |= dict.fromkeys(HEARING, settings.max_audio_bytes + FORM_BYTES)
    app.surround(partial(JsonDispatch, framework=app, routers=ROUTERS))
    app.surround(partial(SizeLimits, body=settings.max_body_bytes, head=settings.max_header_bytes, wide=uploads))
    app.surround(Authentication)
    app.surround(partial(ForeignPages, rules=browser_rules(settings)))
    app.surround(RefuseWhileDraining)
    app.surround(partial(AccessLog, metrics=metrics))
    if traced(settings):
        app.surround(partial(TraceRequests, ratio=settings.trace_ratio))
    if settings.cors_origins:
        browsers = partial(CORSMiddleware, allow_origins=settings.cors_origins, expose_headers=EXPOSED)
        app.surround(partial(browsers, allow_methods=["*"], allow_headers=["*"]))
    app.surround(partial(PathNormalization, root=settings.root_path))


def server(settings: GatewaySettings, connect: Connect) -> DrainingServer:
    """Returns the server, ready for `await server.serve()`; it stops on SIGINT and SIGTERM, giving streams `drain`
    seconds."""
    app = create_app(settings, connect)
    return DrainingServer(server_config(settings, app), app, settings.drain)


def server_config(settings: GatewaySettings, app: FastAPI | Callable[[], FastAPI]) -> uvicorn.Config:
    """Returns the server's configuration, around an app or (for processes of their own) what makes one."""
    return uvicorn.Config(
        app,
        factory=not isinstance(app, FastAPI),
        workers=settings.processes,
        host=settings.host,
        port=settings.port,
        http=_protocol(settings),
        h11_max_incomplete_event_size=2 * settings.max_header_bytes + SPARE_HEAD,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        timeout_graceful_shutdown=int(settings.drain) + CLOSE_GRACE,  # sse-starlette ends the streams before that
        timeout_worker_healthcheck=SLOW_START,
        timeout_keep_alive=75,  # seconds; above the usual idle time of a proxy's connection pool
        backlog=BACKLOG,
    )


def _protocol(settings: GatewaySettings) -> type[asyncio.Protocol]:
    timeouts = {"head_timeout": settings.head_timeout, "body_timeout": settings.body_timeout}
    return cast(type[asyncio.Protocol], partial(BoundedHeadProtocol, **timeouts))


def listen(settings: GatewaySettings) -> socket.socket:
    """Returns the listening socket, for servers that share it or want a free port (`port=0`)."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol must be named: asyncio turns Nagle's algorithm off only for sockets that say they are TCP, and with
    # it on, a status line and its body in two writes cost 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, settings.port))
    listener.listen(BACKLOG)  # who connects before the app is ready waits instead of being refused
    listener.set_inheritable(True)
    return listener
