"""Somebody who only wants answers, while others attack the gateway that serves them."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.stream import judge
from millstream.common.broker.embedded import EmbeddedValkey
from tests.harness.cluster import MODEL, Cluster, cluster
from tests.harness.support import wait_until

WIDE = 30.0  # seconds to wait for an answer on a busy machine
SHARE = 8  # a gateway under attack gives one answer at least while another one, which nobody attacks, gives so many
SPARE = 2  # answers: an attack may be over before one is complete
KEPT = 400 * 2**20  # bytes a process may keep of what it once needed
TOKENS = 5


@dataclass
class WatchedNeighbour:
    """Asks for one short answer after the other; every token must be right."""

    site: Cluster
    gateway: FleetPart
    answers: int = 0
    wrong: list[str] = field(default_factory=list[str])

    async def ask(self) -> None:
        """For ever."""
        while True:
            client = self.site.client(self.gateway, TOKENS)
            await client.listen()
            self.answers += 1
            if not (verdict := judge(client.ask, client.heard)).good:
                self.wrong.append(f"{verdict} {client.heard.errors}")
            await asyncio.sleep(0.05)

    async def more(self, answers: int) -> None:
        """Waits for more answers."""
        enough = self.answers + answers
        await wait_until(lambda: self.answers >= enough, within=2 * WIDE, what="the neighbour is served")


@dataclass
class AttackScene:
    """A gateway under attack, another one that nobody attacks, a worker, and who is served there too."""

    site: Cluster
    gateway: FleetPart
    quiet: FleetPart
    http: httpx.AsyncClient  # the attacker's

    async def attack(self, path: str, body: bytes) -> httpx.Response:
        """One body."""
        return await self.http.post(path, content=body, headers={"content-type": "application/json"})

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[WatchedNeighbour]:
        """A neighbour is served as ever meanwhile: not much less often than the neighbour at the other gateway."""
        neighbour, elsewhere = (WatchedNeighbour(self.site, gateway) for gateway in (self.gateway, self.quiet))
        asking = [asyncio.create_task(each.ask()) for each in (neighbour, elsewhere)]
        try:
            await neighbour.more(1)
            await elsewhere.more(1)
            before = neighbour.answers, elsewhere.answers
            yield neighbour
            got, usual = neighbour.answers - before[0], elsewhere.answers - before[1]
            await neighbour.more(2)
        finally:
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        assert not neighbour.wrong
        assert usual <= SHARE * (got + SPARE), f"a neighbour got {got} answers, elsewhere {usual}"

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
        gateway, quiet = await site.gateway(**settings), await site.gateway()
        await site.worker(simulated_rate="1000")
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as http:
            yield AttackScene(site, gateway, quiet, http)


__all__ = ["MODEL", "AttackScene", "WatchedNeighbour", "scene"]
