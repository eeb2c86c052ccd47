"""A whole cluster for background tests: gateways in this process, on a real Valkey, with the files in a folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from millstream.gateway.services.connect import connect
from millstream.gateway.settings import GatewaySettings
from tests.harness.serving import serving


@asynccontextmanager
async def gateway(redis_url: str, files: Path, **settings: Any) -> AsyncIterator[str]:
    """Yields the gateway's base URL."""
    chosen = GatewaySettings(**{"port": 0, "drain": 1.0, "redis_url": redis_url, "files_url": str(files), **settings})
    async with serving(chosen, connect) as url:
        yield url
