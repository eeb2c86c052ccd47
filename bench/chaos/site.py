# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The cluster `millstream chaos` is let loose on: its own Valkey, gateways, workers, and proxies between them."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import httpx

from millstream.bench.chaos.fleet import START_PATIENCE, Fleet, FleetPart
from millstream.bench.chaos.proxy import Proxy
from millstream.bench.chaos.server.servers import Servers
from millstream.bench.chaos.settings import ChaosSettings
from millstream.bench.chaos.stream import CLIENT_PATIENCE
from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.models.directory import WorkerInfo, model_info
from millstream.common.job import ModelName

MODEL = ModelName("simulated")
KEEP_ALIVE = "0.5"  # seconds: every fault makes a silence that is told
THROUGH_PROXY = 0.5  # part of the processes that reach Redis through a proxy; the others know it as it is
MAX_ATTEMPTS = 50  # here workers die of our hand, never of a job


@dataclass
class ChaosSite:
    """Everything that runs, and who of it may be struck."""

    settings: ChaosSettings
    directory: Path
    choice: random.Random
    gateways: list[FleetPart] = field(default_factory=list[FleetPart])
    backgrounds: list[FleetPart] = field(default_factory=list[FleetPart])
    to_redis: dict[FleetPart, Proxy] = field(default_factory=dict[FleetPart, Proxy])  # of those that have one
    to_gateway: dict[FleetPart, Proxy] = field(default_factory=dict[FleetPart, Proxy])  # between it and its clients
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        self.servers = await self._stack.enter_async_context(
            Servers(self.directory, self.settings.topology == "sentinel")
        )
        shared = {"lease": str(self.settings.lease), "max_attempts": str(MAX_ATTEMPTS)}
        self.fleet = await self._stack.enter_async_context(Fleet(self.directory / "logs", self.servers.url, **shared))
        self.broker = await self._stack.enter_async_context(Broker(self.servers.url))
        limits = httpx.Limits(max_connections=None)
        self.http = await self._stack.enter_async_context(httpx.AsyncClient(timeout=CLIENT_PATIENCE, limits=limits))
        for _ in range(self.settings.workers):
            await self.start_worker()
        for _ in range(self.settings.gateways):
            await self.start_gateway()
        for _ in range(self.settings.background):
            await self.start_background()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def start_gateway(self) -> None:
        proxy = await self._proxy_to_redis()
        part = await self.fleet.gateway(keep_alive=KEEP_ALIVE, **_url(proxy))
        host, _, port = part.url.removeprefix("http://").rpartition(":")
        front = await self._stack.enter_async_context(Proxy(host, int(port)))
        part.url = f"http://{front.address}"
        self.to_gateway[part] = front
        self._reaches(part, proxy)
        self.gateways.append(part)

    async def start_background(self) -> None:
        proxy = await self._proxy_to_redis()
        part = await self.fleet.background(slice_seconds="5", **_url(proxy))
        self._reaches(part, proxy)
        self.backgrounds.append(part)

    async def start_worker(self) -> None:
        proxy = await self._proxy_to_redis()
        slots = -(-self.settings.at_once // max(1, self.settings.workers - 1))  # one may be missing
        part = await self.fleet.worker(
            supervised=self.settings.supervise,
            simulated_rate=str(self.settings.rate),
            simulated_length="1000000",
            slots=str(slots),
            drain="1",
            **_url(proxy),
        )
        self._reaches(part, proxy)

    async def _proxy_to_redis(self) -> Proxy | None:
        """Returns a process' way to Redis; None if it goes straight there."""
        if self.settings.topology != "single" or self.choice.random() >= THROUGH_PROXY:
            return None
        return await self._stack.enter_async_context(Proxy("127.0.0.1", self.servers.primary.port))

    def _reaches(self, part: FleetPart, proxy: Proxy | None) -> None:
        if proxy:
            self.to_redis[part] = proxy

    def gateway(self) -> str:
        """Returns where a client goes next: any gateway that runs."""
        running = [part for part in self.gateways if part.alive]
        return self.choice.choice(running or self.gateways).url

    async def workers(self) -> list[WorkerInfo]:
        """Returns the workers alive, as Redis knows them."""
        return [worker for worker in (await model_info(self.broker, MODEL)).workers if worker.alive]

    async def until_served(self) -> None:
        """Waits until a worker has announced itself."""
        async with asyncio.timeout(START_PATIENCE):
            while True:
                if await self.workers():
                    return
                await asyncio.sleep(0.05)

    async def held(self, worker: WorkerInfo) -> frozenset[str]:
        """Returns the jobs a worker runs now."""
        async with redis_errors():
            ids = self.broker.redis.hkeys(keys.fences(MODEL, worker.id))
            return frozenset(await cast(Awaitable[list[str]], ids))

    async def drop_subscribers(self) -> None:
        """Cuts every subscription, of gateways and workers."""
        async with redis_errors():
            await cast(Awaitable[int], self.broker.redis.client_kill_filter(_type="pubsub"))


def _url(proxy: Proxy | None) -> dict[str, str]:
    return {"redis_url": proxy.url} if proxy else {}


def strike(worker: WorkerInfo, number: signal.Signals) -> bool:
    """Signals a worker's process; tells whether it was there."""
    try:
        os.kill(int(worker.details["pid"]), number)
    except ProcessLookupError:
        return False
    return True
