"""A whole cluster for background tests: gateways in this process, on a real Valkey, with the files in a folder."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.app import listen, server
from gateway.connect import connect
from gateway.settings import GatewaySettings
from tests.support import wait_until


@asynccontextmanager
async def gateway(redis_url: str, files: Path, **settings: Any) -> AsyncIterator[str]:
    """Its base URL."""
    chosen = GatewaySettings(**{"port": 0, "drain": 1.0, "redis_url": redis_url, "files_url": str(files), **settings})
    running = server(chosen, connect)
    with listen(chosen) as listener:
        task = asyncio.create_task(running.serve([listener]))
        await wait_until(lambda: running.started or task.done(), what="the server starts")
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            await task
