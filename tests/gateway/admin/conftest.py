"""A gateway with keys of an administrator and two tenants, at a real queue with workers in this process."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest_asyncio

from millstream.gateway.services.connect import connect
from millstream.gateway.settings import GatewaySettings
from tests.harness.queue_site import MODEL, Site
from tests.harness.serving import serving

KEYS = ["admin:sk-admin", "acme:sk-acme", "zeta:sk-zeta"]


@dataclass
class House:
    """A site and one gateway at it; a client for each of those who ask."""

    site: Site
    url: str
    admin: httpx.AsyncClient
    acme: httpx.AsyncClient
    zeta: httpx.AsyncClient

    async def wait_for(self, ids: list[str], tenant: str = "acme", **changes: Any) -> None:
        """Puts jobs into the queue that nobody reads."""
        for id in ids:
            await self.site.put(id, tenant=tenant, **changes)


@asynccontextmanager
async def house_of(site: Site, **settings: Any) -> AsyncIterator[House]:
    chosen = GatewaySettings(**{"redis_url": site.broker.url, "port": 0, "drain": 0.5, "api_keys": KEYS, **settings})
    async with serving(chosen, connect) as url, AsyncExitStack() as scope:
        clients = [
            await scope.enter_async_context(
                httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer sk-{name}"}, timeout=30)
            )
            for name in ("admin", "acme", "zeta")
        ]
        yield House(site, url, *clients)


@pytest_asyncio.fixture
async def house(site: Site) -> AsyncIterator[House]:
    async with house_of(site) as opened:
        yield opened


def chat(tokens: int = 50, text: str = "hi", **changes: Any) -> dict[str, Any]:
    sampled = {"max_tokens": tokens, "seed": 7, "stream": True}
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **sampled, **changes}
