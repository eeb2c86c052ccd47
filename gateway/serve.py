"""Running gateway processes: one, or several that share the port."""

import signal
import socket
from functools import partial

import structlog
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from millstream.common.process import loop
from millstream.common.telemetry import configure
from millstream.gateway.app import create_app, listen, server, server_config
from millstream.gateway.services.connect import connect
from millstream.gateway.settings import GatewaySettings

WRONG_USAGE = 2  # exit status: the same settings will not do better

log = structlog.stdlib.get_logger(part="gateway")


def serve(settings: GatewaySettings) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status."""
    configure(settings.log_format, settings.log_level)
    try:
        create_app(settings, connect)  # only to hear what is wrong with the settings before a port is opened
        listener = listen(settings)
    except (ValueError, OSError) as error:
        log.error("cannot_start", error=str(error))
        return WRONG_USAGE
    host, port = listener.getsockname()[:2]
    log.info("listening", host=host, port=port, processes=settings.processes)
    if settings.processes == 1:
        return run(settings, [listener])
    Multiprocess(server_config(settings, partial(child_app, settings)), [listener]).run()
    return 0


def child_app(settings: GatewaySettings) -> FastAPI:
    """One of several processes: made where it runs, so the settings travel, not the app. One that cannot go on ends
    itself, and its parent starts another."""
    configure(settings.log_format, settings.log_level)
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
