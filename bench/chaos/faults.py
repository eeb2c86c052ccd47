"""The faults of `millstream chaos`: each is really done to a running process, and remembered with its moment."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from millstream.bench.chaos.settings import Fault
from millstream.bench.chaos.site import ChaosSite, strike
from millstream.bench.chaos.truncate_aof import cut_tail
from millstream.common.errors import Unavailable
from millstream.common.process.tasks import TaskGroup

RECOVERY = 3.0  # seconds after Redis came back: its restart grace and a margin
APART = 4.0  # seconds between a gateway's death and a loss of Redis' tail: both at once are beyond the promise
LARGEST_CUT = 60_000  # bytes of append-only file: some seconds of chunks


@dataclass(frozen=True, slots=True)
class Struck:
    """One fault: what, when (monotonic seconds), and the jobs it hit (None: possibly all)."""

    fault: Fault
    moment: float
    jobs: frozenset[str] | None = None


@dataclass
class Faults:
    """Strikes a site."""

    site: ChaosSite
    struck: list[Struck] = field(default_factory=list[Struck])
    _gateway_died: float = 0.0

    async def run(self, seconds: float) -> None:
        """Strike at random until the time is over."""
        settings, choice = self.site.settings, self.site.choice
        until = monotonic() + seconds
        async with TaskGroup() as revivals:
            while monotonic() < until:
                await asyncio.sleep(choice.uniform(0.5, 1.5) * settings.pause)
                fault = choice.choice(settings.faults)
                try:
                    await self._do(fault, revivals)
                except Unavailable:
                    continue  # Redis is not back yet: nobody to choose from

    async def _do(self, fault: Fault, revivals: TaskGroup) -> None:
        match fault:
            case "worker-kill":
                await self._worker(fault, signal.SIGKILL)
            case "worker-drain":
                await self._worker(fault, signal.SIGTERM)
            case "worker-freeze":
                await self._freeze(revivals)
            case "gateway-kill":
                await self._gateway(revivals)
            case "background-kill":
                await self._background(revivals)
            case "redis-restart":
                await self._redis(fault, 0)
            case "redis-truncate":
                await asyncio.sleep(max(0.0, self._gateway_died + APART - monotonic()))
                await self._redis(fault, self.site.choice.randrange(1, LARGEST_CUT))
            case "redis-freeze":
                await self._freeze_redis()
            case "pubsub-drop":
                await self.site.drop_subscribers()
                self._remember(fault)

    def _remember(self, fault: Fault, jobs: frozenset[str] | None = None) -> None:
        self.struck.append(Struck(fault, monotonic(), jobs))

    async def _worker(self, fault: Fault, number: signal.Signals) -> None:
        """Ends a worker, with or without warning; unless a supervisor does it, another one is started in its place."""
        if not (running := await self.site.workers()):
            return
        victim = self.site.choice.choice(running)
        jobs = await self.site.held(victim)
        if strike(victim, number):
            self._remember(fault, jobs)
            if not self.site.settings.supervise:
                await self.site.start_worker()

    async def _freeze(self, revivals: TaskGroup) -> None:
        """A worker stops in mid-sentence for longer than its lease, and goes on without knowing."""
        if not (running := await self.site.workers()):
            return
        victim = self.site.choice.choice(running)
        jobs = await self.site.held(victim)
        if strike(victim, signal.SIGSTOP):
            self._remember("worker-freeze", jobs)
            asleep = self.site.settings.lease * self.site.choice.uniform(1.2, 2.5)
            revivals.create_task(after(asleep, lambda: strike(victim, signal.SIGCONT)))

    async def _gateway(self, revivals: TaskGroup) -> None:
        running = [part for part in self.site.gateways if part.alive]
        if len(running) < min(2, self.site.settings.gateways):
            return  # the next one is still starting
        victim = self.site.choice.choice(running)
        await victim.kill()
        self._gateway_died = monotonic()
        self._remember("gateway-kill")
        revivals.create_task(self.site.start_gateway())

    async def _background(self, revivals: TaskGroup) -> None:
        if running := [part for part in self.site.backgrounds if part.alive]:
            await self.site.choice.choice(running).kill()
            self._remember("background-kill", frozenset())
            revivals.create_task(self.site.start_background())

    async def _freeze_redis(self) -> None:
        """Stops the server in mid-sentence for longer than a lease: nobody can renew one meanwhile."""
        os.kill(self.site.valkey.pid, signal.SIGSTOP)
        self._remember("redis-freeze")
        try:
            await asyncio.sleep(self.site.settings.lease * self.site.choice.uniform(1.2, 2.5))
        finally:
            os.kill(self.site.valkey.pid, signal.SIGCONT)
        await asyncio.sleep(RECOVERY)

    async def _redis(self, fault: Fault, cut: int) -> None:
        await self.site.valkey.kill()
        self._remember(fault)
        if cut:
            cut_tail(self.site.data, cut)
        await self.site.valkey.restart()
        await asyncio.sleep(RECOVERY)


async def after(seconds: float, action: Callable[[], object]) -> None:
    await asyncio.sleep(seconds)
    action()
