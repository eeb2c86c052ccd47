"""A gateway in the test's own process, on a real port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from millstream.gateway.app import listen, server
from millstream.gateway.services.cluster import Connect
from millstream.gateway.settings import GatewaySettings
from tests.harness.support import wait_until


@asynccontextmanager
async def serving(settings: GatewaySettings, connect: Connect) -> AsyncIterator[str]:
    """Yields the server's base URL."""
    running = server(settings, connect)
    with listen(settings) as listener:
        task = asyncio.create_task(running.serve([listener]))
        await wait_until(lambda: running.started or task.done(), what="the server starts")
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            await task
