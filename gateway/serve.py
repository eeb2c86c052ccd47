"""Running gateway processes: one, or several that share the port."""

import os
import signal
import socket
import sys
from functools import partial

import structlog
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from millstream.common.process import loop
from millstream.common.process.leash import die_with_parent
from millstream.common.process.open_files import raise_open_files
from millstream.common.telemetry import configure
from millstream.gateway.access.tls import check_tls
from millstream.gateway.app import create_app, listen, server, server_config
from millstream.gateway.records.files.storage import Storage
from millstream.gateway.services.connect import connect
from millstream.gateway.settings import GatewaySettings

WRONG_USAGE = 2  # exit status: the same settings will not do better

log = structlog.stdlib.get_logger(part="gateway")


def serve(settings: GatewaySettings) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status."""
    configure(settings.log_format, settings.log_level)
    try:
        _look_up(settings.host)
        create_app(settings, connect)  # only to hear what is wrong with the settings before a port is opened
        Storage(settings.files_url)
        check_tls(settings.ssl_certfile, settings.ssl_keyfile)
        listener = _listen(settings)
    except (ValueError, OSError) as error:
        log.error("cannot_start", error=str(error))
        return WRONG_USAGE
    host, port = listener.getsockname()[:2]
    log.info("listening", host=host, port=port, processes=settings.processes, open_files=raise_open_files())
    if settings.processes == 1:
        return run(settings, [listener])
    Multiprocess(server_config(settings, partial(child_app, settings, os.getpid())), [listener]).run()
    return 0


def _look_up(host: str) -> None:
    """Raises `ValueError` for what is no address of this machine's kind."""
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise ValueError(f"--host (MILLSTREAM_HOST) {host} is no address: {error.strerror}.") from error


def _listen(settings: GatewaySettings) -> socket.socket:
    """Raises `ValueError` that names the flags."""
    try:
        return listen(settings)
    except OSError as error:
        raise ValueError(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror or error}. Choose another with "
            "--host (MILLSTREAM_HOST) and --port (MILLSTREAM_PORT), or stop what uses it."
        ) from error


def child_app(settings: GatewaySettings, parent: int) -> FastAPI:
    """One of several processes: made where it runs, so the settings travel, not the app. One that cannot go on ends
    itself, and its parent starts another. It does not outlive its parent, which holds the port."""
    configure(settings.log_format, settings.log_level)
    if die_with_parent(signal.SIGTERM) and os.getppid() != parent:
        sys.exit(0)  # the parent died before the kernel was asked
    app = create_app(settings, connect, failed=partial(signal.raise_signal, signal.SIGTERM))
    loop.keep_what_is_loaded()
    return app


def run(settings: GatewaySettings, sockets: list[socket.socket]) -> int:
    """One gateway process on a socket that is listening already; its exit status."""
    configure(settings.log_format, settings.log_level)
    serving = server(settings, connect)
    loop.keep_what_is_loaded()
    loop.run(serving.serve(sockets))
    return serving.failure
