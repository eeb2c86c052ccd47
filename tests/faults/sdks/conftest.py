"""A cluster whose models lie in three Redis servers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.stream import Ask, StreamClient
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.directory import model_info
from millstream.common.job import ModelName
from tests.harness.cluster import PATIENCE, Cluster, cluster
from tests.harness.support import wait_until

ALPHA, BETA, GAMMA = map(ModelName, ("alpha", "beta", "gamma"))  # at servers a and b, and at home


@dataclass
class ThreeServers:
    """A cluster over three servers."""

    site: Cluster
    servers: dict[str, EmbeddedValkey]
    places: str

    @property
    def home(self) -> EmbeddedValkey:
        return self.servers["home"]

    async def worker(self, model: ModelName, **settings: str) -> FleetPart:
        part = await self.site.fleet.worker(served_model_name=model, simulated_rate="100", **settings)

        async def serves() -> bool:
            workers = (await model_info(self.site.broker, model)).workers
            return any(each.alive and each.details.get("pid") == str(part.pid) for each in workers)

        await wait_until(serves, within=PATIENCE, what=f"{part.name} announces {model}")
        return part

    def client(self, gateway: FleetPart, model: ModelName, tokens: int = 300) -> StreamClient:
        number = next(self.site.numbers)
        ask = Ask(model, f"question {number}", number, tokens)
        return StreamClient(self.site.http, lambda: gateway.url, ask, f"key-{number}")

    async def names(self, server: str) -> set[str]:
        """Returns all keys of a server."""
        models = {"home": GAMMA, "a": ALPHA, "b": BETA}
        redis = self.site.broker.of(models[server]).redis
        return {name async for name in redis.scan_iter()}


@pytest_asyncio.fixture
async def three(tmp_path: Path) -> AsyncIterator[ThreeServers]:
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(EmbeddedValkey(tmp_path / name)) for name in ("home", "a", "b")
        }
        places = f"alph?={servers['a'].url},beta={servers['b'].url}"
        site = await stack.enter_async_context(cluster(servers["home"], tmp_path, model_redis=places))
        yield ThreeServers(site, servers, places)
