"""The drain of a gateway process: it refuses what is new while what is open goes on, and only then closes its port, so
that a load balancer hears of it from `/ready`."""

import asyncio
import socket
from time import monotonic
from typing import cast

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from millstream.common.errors import Unavailable
from millstream.gateway.connection.outlet import begun, hang_up
from millstream.gateway.connection.sse import STOPPING, DrainNotifier
from millstream.gateway.http.middleware import error_response
from millstream.gateway.http.normalize import own_path

CLOSE_GRACE = 2  # seconds for what is open at the end of the drain window to be told so
LOOK_EVERY = 0.1  # seconds between two looks at the clock and at a second signal
STILL_OPEN = frozenset(("/health", "/ready", "/metrics"))


class DrainingServer(uvicorn.Server):
    """Serves on for `drain` seconds after the signal, or until nothing is open any more."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain = drain

    async def on_tick(self, counter: int) -> bool:
        """Tells whether to stop: told to, or because what keeps this gateway going has ended and streams would hang."""
        return await super().on_tick(counter) or bool(self.failure) or getattr(self.lifespan, "error_occurred", False)

    @property
    def failure(self) -> int:
        """Returns the exit status of a gateway whose connection to the cluster has ended; 0 while it goes on."""
        return int(self._app.state.failure)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notifier_of(self._app).tell()
        until = monotonic() + (0.0 if self.failure else self._drain)
        while (open_requests := self.server_state.tasks) and not self.force_exit and monotonic() < until:
            await asyncio.wait(open_requests, timeout=LOOK_EVERY)
        self.config.timeout_graceful_shutdown = CLOSE_GRACE
        await super().shutdown(sockets)


def draining(app: FastAPI) -> bool:
    """Tells whether the process has been told to stop."""
    return notifier_of(app).draining


def notifier_of(app: FastAPI) -> DrainNotifier:
    """Returns what tells an app's open streams that its process stops."""
    return cast(DrainNotifier, app.state.drain_notifier)


class RefuseWhileDraining:
    """Refuses new requests once the process is leaving: another gateway will take them. What the server cancels in the
    end, because it took longer than its last words, ends here, quietly: it is as much as was announced."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and draining(scope["app"]) and own_path(scope) not in STILL_OPEN:
            await _refuse(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not draining(scope["app"]):
                raise
            if begun(scope):
                hang_up(scope)
            else:
                await _refuse(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    response = error_response(Unavailable(STOPPING, retry_after=1), scope)
    response.headers["connection"] = "close"
    await response(scope, receive, send)
