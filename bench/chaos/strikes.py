"""Each fault of `millstream chaos`, really done to a running process or connection, and remembered with its moment."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from time import monotonic

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.server.truncate_aof import cut_tail
from millstream.bench.chaos.settings import Fault
from millstream.bench.chaos.site import ChaosSite, strike
from millstream.bench.chaos.stream import CLIENT_PATIENCE
from millstream.common.broker.connection.broker import COMMAND_TIMEOUT
from millstream.common.process.tasks import TaskGroup

RECOVERY = 3.0  # seconds after Redis came back: its restart grace and a margin
APART = 4.0  # seconds between a gateway's death and a loss of Redis' tail: both at once are beyond the promise
LARGEST_CUT = 60_000  # bytes of append-only file: some seconds of chunks
LONGEST_WINDOW = 0.6  # seconds of writes that a fail-over loses, at most
REPLIES_LOST = 3  # in a row, at most
SAYS_NOTHING = 1.0  # seconds
SCRIPT, ANY = b"EVALSHA", b"\r\n"  # words of the commands whose replies get lost


@dataclass(frozen=True, slots=True)
class Struck:
    """One fault: what, when (monotonic seconds), and the jobs it hit (None: possibly all)."""

    fault: Fault
    moment: float
    jobs: frozenset[str] | None = None


@dataclass
class Loss:
    """A time in which Redis may have forgotten what it had acknowledged; it is not over before `end`."""

    end: float = inf


@dataclass
class Strikes:
    """Does the faults to a site. `revivals` brings back what was struck."""

    site: ChaosSite
    struck: list[Struck]
    losses: list[Loss]
    revivals: TaskGroup
    _clients_deaf: float = 0.0  # until when clients may wait at half-open connections
    _tail_kept_until: float = 0.0  # until when Redis' tail may not be lost
    _needed_until: dict[FleetPart, float] = field(default_factory=dict[FleetPart, float])  # gateways that alone know it

    async def may_strike(self, faults: list[Fault]) -> None:
        """Waits while Redis' tail may not be lost, if one of the faults loses it."""
        if self.site.settings.forgetful & set(faults):
            await asyncio.sleep(max(0.0, self._tail_kept_until - monotonic()))

    async def strike(self, fault: Fault) -> None:
        """Does one fault. Raises `Unavailable` when there is no Redis to choose a victim by."""
        match fault:
            case "worker-kill":
                await self._worker(fault, signal.SIGKILL)
            case "worker-drain":
                await self._worker(fault, signal.SIGTERM)
            case "worker-freeze":
                await self._freeze_worker()
            case "gateway-kill":
                await self._kill_gateway()
            case "gateway-freeze":
                self._freeze_gateway()
            case "background-kill":
                await self._background()
            case "pubsub-drop":
                await self.site.drop_subscribers()
                self._remember(fault)
            case "redis-half-open" | "reply-lost" | "client-half-open":
                await self._connection(fault)
            case _:
                await self._redis(fault)

    def _remember(self, fault: Fault, jobs: frozenset[str] | None = None) -> None:
        self.struck.append(Struck(fault, monotonic(), jobs))

    @property
    def _nap(self) -> float:
        """Returns how long a frozen process sleeps: longer than a lease."""
        return self.site.settings.lease * self.site.choice.uniform(1.2, 2.5)

    # ------------------------------------------------------------------------------------------------------ processes

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

    async def _freeze_worker(self) -> None:
        """A worker stops in mid-sentence for longer than its lease, and goes on without knowing."""
        if not (running := await self.site.workers()):
            return
        victim = self.site.choice.choice(running)
        jobs = await self.site.held(victim)
        if strike(victim, signal.SIGSTOP):
            self._remember("worker-freeze", jobs)
            self.revivals.create_task(after(self._nap, lambda: strike(victim, signal.SIGCONT)))

    async def _kill_gateway(self) -> None:
        running = [part for part in self.site.gateways if part.alive]
        spared = [part for part in running if self._needed_until.get(part, 0.0) > monotonic()]
        if len(running) < min(2, self.site.settings.gateways) or len(spared) == len(running):
            return  # the next one is still starting
        victim = self.site.choice.choice([part for part in running if part not in spared])
        await victim.kill()
        self._tail_kept_until = max(monotonic(), self._clients_deaf) + APART
        self._remember("gateway-kill")
        self.revivals.create_task(self.site.start_gateway())

    def _freeze_gateway(self) -> None:
        """A gateway stops in mid-sentence for longer than a lease; its clients wait for it, or go to another one."""
        running = [part for part in self.site.gateways if part.alive and not part.frozen]
        if running:
            victim, nap = self.site.choice.choice(running), self._nap
            victim.freeze()
            self._needed_until[victim] = monotonic() + nap + APART
            self._remember("gateway-freeze")
            self.revivals.create_task(after(nap, victim.thaw))

    async def _background(self) -> None:
        if running := [part for part in self.site.backgrounds if part.alive]:
            await self.site.choice.choice(running).kill()
            self._remember("background-kill", frozenset())
            self.revivals.create_task(self.site.start_background())

    # ---------------------------------------------------------------------------------------------------- connections

    async def _connection(self, fault: Fault) -> None:
        """Breaks what lies between two parts; the parts themselves are well."""
        proxies = self.site.to_gateway if fault == "client-half-open" else self.site.to_redis
        standing = [part for part, proxy in proxies.items() if part.alive and proxy.links]
        if not standing:
            return
        part = self.site.choice.choice(standing)
        self._remember(fault)
        if fault == "reply-lost":
            await self._lose_replies(part)
            return
        proxies[part].half_open()
        if fault == "client-half-open":
            self._clients_deaf = monotonic() + CLIENT_PATIENCE
        elif part in self.site.gateways:
            self._needed_until[part] = monotonic() + COMMAND_TIMEOUT + APART

    async def _lose_replies(self, part: FleetPart) -> None:
        """Some commands, one after the other, are done and not answered."""
        proxy = self.site.to_redis[part]
        for _ in range(self.site.choice.randint(1, REPLIES_LOST)):
            proxy.lose_reply_to(self.site.choice.choice((SCRIPT, ANY)))
            try:
                async with asyncio.timeout(SAYS_NOTHING):
                    await proxy.lost.wait()
            except TimeoutError:
                return  # it has nothing to say

    # ---------------------------------------------------------------------------------------------------------- Redis

    async def _redis(self, fault: Fault) -> None:
        self._remember(fault)
        loss = Loss()
        if fault in self.site.settings.forgetful:
            self.losses.append(loss)
        await self._strike_redis(fault)
        loss.end = monotonic()
        await asyncio.sleep(RECOVERY)

    async def _strike_redis(self, fault: Fault) -> None:
        servers, choice = self.site.servers, self.site.choice
        match fault:
            case "redis-freeze":
                await servers.freeze(self._nap)
            case "redis-failover":
                await servers.fail_over(choice.uniform(0.05, LONGEST_WINDOW))
            case _:
                await servers.primary.kill()
                if fault == "redis-truncate":
                    cut_tail(servers.data, choice.randrange(1, LARGEST_CUT))
                await servers.primary.restart()
                await servers.settle()


async def after(seconds: float, action: Callable[[], object]) -> None:
    await asyncio.sleep(seconds)
    action()
