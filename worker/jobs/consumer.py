"""Takes jobs while there are free slots: own inbox first, then what waits. Never polls: it sleeps until its inbox
rings, a slot frees for which somebody waits, or a heartbeat wakes it as a backstop."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.control import Doorbell
from millstream.common.broker.workers import Claim, Claimed, claim
from millstream.common.job import ModelName, WorkerId
from millstream.common.process.backoff import Backoff
from millstream.worker.jobs.running_jobs import RunningJob, RunningJobs

log = structlog.stdlib.get_logger(part="consumer")


class Runs(Protocol):
    """The interface of what runs the jobs: `begin` is given each that is new here, `drop` each that is held no more."""

    def begin(self, job: RunningJob) -> None: ...
    def drop(self, job: RunningJob) -> None: ...


class Consumer:
    """The claiming loop of one model. `slots` tells how many jobs it may hold now."""

    def __init__(
        self,
        broker: Broker,
        model: ModelName,
        worker: WorkerId,
        running_jobs: RunningJobs,
        slots: Callable[[], int],
        runner: Runs,
    ) -> None:
        self._broker = broker
        self._model = model
        self._worker = worker
        self._running_jobs = running_jobs
        self._slots = slots
        self._runner = runner
        self._rung = asyncio.Event()  # set when a round has ended that began after the inbox rang
        self.draining = False
        self.resting = False

    @property
    def room(self) -> int:
        return 0 if self.draining or self.resting else self._slots() - len(self._running_jobs)

    def wake(self) -> None:
        """Looks again whether there is something to claim."""
        self._running_jobs.freed.set()

    async def run(self) -> None:
        """Claims for ever; ends by cancellation only."""
        backoff = Backoff()
        while True:
            self._running_jobs.freed.clear()
            self._running_jobs.rung_in_vain = False
            rung = self._rung
            try:
                pause = await self._claim_all()
                backoff.reset()
            except RedisAway:
                pause = backoff.take()
            rung.set()
            if pause:
                await asyncio.sleep(pause)
            else:
                await self._running_jobs.freed.wait()

    async def _claim_all(self) -> float:
        """Claims until nothing more is due; seconds to wait if Redis asks for patience, else 0. Fewer jobs than there
        was room for are all there were: whatever comes later rings."""
        while (room := self.room) > 0:
            async with self._running_jobs.ledger:
                found = await claim(self._broker, self._model, self._worker, room)
                for job in found.jobs:
                    self.take(job)
            if len(found.jobs) < room:
                return self._patience(found)
        return 0

    def _patience(self, found: Claim) -> float:
        if found.status == "grace":
            log.info("claim_held_back", model=self._model, wait_ms=found.wait_ms)
            return found.wait_ms / 1000
        return 0  # nothing there, or not registered: the next heartbeat registers and wakes us

    def take(self, claimed: Claimed) -> None:
        """Holds a job from now on. An older lease of the same job is superseded; the very same one goes on as it is."""
        known = self._running_jobs.by_id(claimed.id)
        if known and known.claimed.lease == claimed.lease:
            return
        if known:
            self._runner.drop(known)
        job = RunningJob(claimed)
        self._running_jobs.add(job)
        log.info("job_claimed", **job.facts, worker=self._worker, lease=claimed.lease, after=claimed.seq)
        self._runner.begin(job)

    async def listen(self, bell: Doorbell) -> None:
        """Wakes the claiming loop whenever the inbox holds something; ends by cancellation only."""
        backoff, before = Backoff(), ""
        while True:
            try:
                first = await bell.ring()
            except RedisAway:
                await backoff.sleep()
                continue
            if not first:
                continue
            if first != before:
                backoff.reset()
            elif self.room > 0:  # a round since then has not claimed it, so it cannot be: do not ring in a tight loop
                await backoff.sleep()
            before = first
            await self._round()

    async def _round(self) -> None:
        """Claims once more, from now on; without room when a slot frees, which claims by itself."""
        self._rung = asyncio.Event()
        if self.room > 0:
            self.wake()
        else:
            self._running_jobs.rung_in_vain = True
        await self._rung.wait()
