"""Somebody who only wants answers, while others attack the gateway that serves them."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import httpx
import psutil

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.stream import judge
from millstream.common.broker.embedded import EmbeddedValkey
from tests.harness.cluster import MODEL, Cluster, cluster
from tests.harness.support import wait_until

WIDE = 12.0  # seconds a short answer may take on a busy machine; a gateway that stands still takes longer
KEPT = 400 * 2**20  # bytes a process may keep of what it once needed
TOKENS = 5


@dataclass
class WatchedNeighbour:
    """Asks for one short answer after the other; every token must be right."""

    site: Cluster
    gateway: FleetPart
    slowest: float = 0.0
    answers: int = 0
    wrong: list[str] = field(default_factory=list[str])

    async def ask(self) -> None:
        """For ever."""
        while True:
            client, began = self.site.client(self.gateway, TOKENS), monotonic()
            await client.listen()
            self.slowest = max(self.slowest, monotonic() - began)
            self.answers += 1
            if not (verdict := judge(client.ask, client.heard)).good:
                self.wrong.append(f"{verdict} {client.heard.errors}")
            await asyncio.sleep(0.05)


@dataclass
class AttackScene:
    """A gateway under attack, a worker, and who is served there too."""

    site: Cluster
    gateway: FleetPart
    http: httpx.AsyncClient  # the attacker's

    async def attack(self, path: str, body: bytes) -> httpx.Response:
        """One body."""
        return await self.http.post(path, content=body, headers={"content-type": "application/json"})

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[WatchedNeighbour]:
        """A neighbour is served as ever meanwhile."""
        neighbour = WatchedNeighbour(self.site, self.gateway)
        asking = asyncio.create_task(neighbour.ask())
        try:
            await wait_until(lambda: neighbour.answers > 0, within=WIDE, what="the neighbour is served")
            yield neighbour
            before = neighbour.answers
            await wait_until(lambda: neighbour.answers > before + 1, within=2 * WIDE, what="it is served afterwards")
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        assert not neighbour.wrong
        assert neighbour.slowest < WIDE, f"a neighbour waited {neighbour.slowest:.1f} s"

    @contextmanager
    def lean(self) -> Generator[None]:
        """The gateway gives back the memory it needed."""
        process = psutil.Process(self.gateway.pid)
        before = process.memory_info().rss
        yield
        grown = process.memory_info().rss - before
        assert grown < KEPT, f"the gateway grew by {grown / 2**20:.0f} MiB"


@asynccontextmanager
async def scene(valkey: EmbeddedValkey, folder: Path, **settings: str) -> AsyncGenerator[AttackScene]:
    """One gateway process, one worker that answers at once."""
    async with cluster(valkey, folder) as site:
        gateway, _ = await site.gateway(**settings), await site.worker(simulated_rate="1000")
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as http:
            yield AttackScene(site, gateway, http)


__all__ = ["MODEL", "AttackScene", "WatchedNeighbour", "scene"]
