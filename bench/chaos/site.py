# redis-py leaves its replies partly untyped; each is cast where it enters.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""The cluster `millstream chaos` is let loose on: its own Valkey, gateways and simulated workers."""

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
from millstream.bench.chaos.settings import ChaosSettings
from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker, redis_errors
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.directory import WorkerInfo, model_info
from millstream.common.job import ModelName

MODEL = ModelName("simulated")
KEEP_ALIVE = "0.5"  # seconds: every fault makes a silence that is told
MAX_ATTEMPTS = 50  # here workers die of our hand, never of a job


@dataclass
class ChaosSite:
    """Everything that runs, and who of it may be struck."""

    settings: ChaosSettings
    directory: Path
    choice: random.Random
    gateways: list[FleetPart] = field(default_factory=list[FleetPart])
    backgrounds: list[FleetPart] = field(default_factory=list[FleetPart])
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        self.data = self.directory / "valkey"
        self.valkey = await self._stack.enter_async_context(EmbeddedValkey(self.data))
        shared = {"lease": str(self.settings.lease), "max_attempts": str(MAX_ATTEMPTS)}
        self.fleet = await self._stack.enter_async_context(Fleet(self.directory / "logs", self.valkey.url, **shared))
        self.broker = await self._stack.enter_async_context(Broker(self.valkey.url))
        limits = httpx.Limits(max_connections=None)
        self.http = await self._stack.enter_async_context(httpx.AsyncClient(timeout=60, limits=limits))
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
        self.gateways.append(await self.fleet.gateway(keep_alive=KEEP_ALIVE))

    async def start_background(self) -> None:
        self.backgrounds.append(await self.fleet.background(slice_seconds="5"))

    async def start_worker(self) -> None:
        rate, length = str(self.settings.rate), "1000000"
        slots = str(-(-self.settings.at_once // max(1, self.settings.workers - 1)))  # one may be missing
        await self.fleet.worker(
            supervised=self.settings.supervise,
            simulated_rate=rate,
            simulated_length=length,
            slots=slots,
            drain="1",
        )

    def gateway(self) -> str:
        """Returns where a client goes next: any gateway that runs."""
        running = [part for part in self.gateways if part.alive]
        return self.choice.choice(running or self.gateways).url

    async def workers(self) -> list[WorkerInfo]:
        """Returns the workers alive, as Redis knows them."""
        return [worker for worker in (await model_info(self.broker, MODEL)).workers if worker.alive]

    async def until_served(self) -> None:
        """Wait until a worker has announced itself."""
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
        """Cut every subscription, of gateways and workers."""
        async with redis_errors():
            await cast(Awaitable[int], self.broker.redis.client_kill_filter(_type="pubsub"))


def strike(worker: WorkerInfo, number: signal.Signals) -> bool:
    """Signals a worker's process; tells whether it was there."""
    try:
        os.kill(int(worker.details["pid"]), number)
    except ProcessLookupError:
        return False
    return True
