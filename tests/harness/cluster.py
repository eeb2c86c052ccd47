"""A cluster of real processes for tests: gateways, workers of the simulated engine, clients that check every token."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from millstream.bench.chaos.fleet import Fleet, FleetPart
from millstream.bench.chaos.stream import Ask, Heard, StreamClient, judge
from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.directory import WorkerInfo, model_info
from millstream.common.broker.models.inspection import live_jobs
from millstream.common.job import JobId, ModelName, WorkerId
from tests.harness.support import wait_until

MODEL = ModelName("simulated")
CHAT = "/v1/chat/completions"
StreamTasks = list[asyncio.Task[Heard]]
PATIENCE = 60.0  # seconds; a safety net for a busy machine, nothing is measured with it


@dataclass
class Cluster:
    """Real processes around one Valkey. `broker` is the test's own look into it."""

    valkey: EmbeddedValkey
    data: Path  # Valkey's directory
    fleet: Fleet
    broker: Broker
    http: httpx.AsyncClient
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def gateway(self, **settings: str) -> FleetPart:
        return await self.fleet.gateway(**settings)

    async def worker(self, **settings: str) -> FleetPart:
        """A worker that has announced itself."""
        part = await self.fleet.worker(**{"simulated_rate": "100", "simulated_length": "100000", **settings})
        await wait_until(lambda: self.info(part), within=PATIENCE, what=f"{part.name} announces itself")
        return part

    async def info(self, part: FleetPart) -> WorkerInfo | None:
        """Returns what a worker process tells in its heartbeat; None while it is not alive."""
        workers = (await model_info(self.broker, MODEL)).workers
        return next((w for w in workers if w.alive and w.details.get("pid") == str(part.pid)), None)

    async def id_of(self, part: FleetPart) -> WorkerId:
        info = await wait_until(lambda: self.info(part), within=PATIENCE)
        assert info is not None
        return info.id

    def client(self, base: FleetPart | str, tokens: int = 100) -> StreamClient:
        """A client with a question of its own."""
        number = next(self.numbers)
        url = base if isinstance(base, str) else base.url
        return StreamClient(self.http, lambda: url, Ask(MODEL, f"question {number}", number, tokens), f"key-{number}")

    async def holder(self, client: StreamClient) -> str:
        """The worker that runs a client's job; empty if none does."""
        return await self.broker.redis.hget(keys.job(MODEL, JobId(client.heard.request)), "worker") or ""  # type: ignore[misc]

    async def job(self, id: str) -> dict[str, str]:
        return await self.broker.redis.hgetall(keys.job(MODEL, JobId(id)))  # type: ignore[misc]

    async def jobs(self) -> list[dict[str, str]]:
        """All job hashes there are."""
        names = [name async for name in self.broker.redis.scan_iter(keys.job(MODEL, JobId("*")))]
        return [await self.broker.redis.hgetall(name) for name in names]  # type: ignore[misc]

    async def running(self) -> int:
        """Returns how many jobs run and have made their first tokens."""
        told = [job for job in await live_jobs(self.broker, MODEL) if job.state == "running"]
        return sum(job.seq > 1 for job in told)

    async def loads(self) -> dict[str, float]:
        return dict(await self.broker.redis.zrange(keys.load(MODEL), 0, -1, withscores=True))

    async def idle(self) -> bool:
        """Tells whether no worker holds anything."""
        return not any((await self.loads()).values())


@asynccontextmanager
async def cluster(valkey: EmbeddedValkey, directory: Path, **common: str) -> AsyncIterator[Cluster]:
    """A cluster without processes yet; all that are started in it are gone at its end."""
    settings = {"lease": "1.0", **common}
    async with (
        Fleet(directory / "logs", valkey.url, **settings) as fleet,
        Broker(valkey.url, model_redis=common.get("model_redis", "")) as broker,
        httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits(max_connections=None)) as http,
    ):
        yield Cluster(valkey, directory / "valkey", fleet, broker, http)


async def heard_some(client: StreamClient, words: int = 5) -> None:
    """Wait until a client is in the middle of its answer."""
    await wait_until(lambda: len(client.heard.arrivals) >= words, within=PATIENCE, what="an answer has begun")


async def all_exact(clients: list[StreamClient], running: list[asyncio.Task[Heard]]) -> None:
    """Every answer complete, every token in its place."""
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*running)
    verdicts = [(client.heard.errors, judge(client.ask, client.heard)) for client in clients]
    assert all(verdict.good for _, verdict in verdicts), [bad for bad in verdicts if not bad[1].good]


def body(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **changes}
