"""Proof of life, and the comparing of notes that comes with it; also this process's share of the upkeep."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.models.directory import announce
from millstream.common.broker.upkeep import UpkeepRules, keep_up
from millstream.common.broker.workers import Claimed, Pulse, beat
from millstream.common.job import ModelName, WorkerId
from millstream.common.process.backoff import Backoff
from millstream.worker.jobs.running_jobs import RunningJob, RunningJobs
from millstream.worker.settings import WorkerSettings

BEATS_PER_LEASE = 5  # a lease survives four lost beats

log = structlog.stdlib.get_logger(part="heartbeat")


class Notes(Protocol):
    """The interface through which a beat's reply takes effect."""

    def about(self) -> Mapping[str, str]: ...
    def adopt(self, claimed: Claimed) -> None: ...
    def drop(self, job: RunningJob) -> None: ...
    def cancel(self, job: RunningJob) -> None: ...
    def preempt(self, job: RunningJob) -> None: ...
    def wake(self) -> None: ...


class Heartbeat:
    """Beats for one model until cancelled."""

    def __init__(self, broker: Broker, model: ModelName, worker: WorkerId, settings: WorkerSettings) -> None:
        self._broker = broker
        self._model = model
        self._worker = worker
        self._lease = settings.lease
        self._rules = UpkeepRules(settings.max_attempts, int(settings.fair_after * 1000))
        self._at_home = broker.of(model) is broker  # else `Presence` announces it: home may be away
        self._names = settings.served_model_name[1:] if model in settings.served_model_name[:1] else []
        self._now = asyncio.Event()
        self.signed_in = asyncio.Event()  # set by the first beat

    @property
    def names(self) -> Sequence[str]:
        """Returns the other names that the model can be asked for by."""
        return self._names

    def soon(self) -> None:
        """Sends a heartbeat at once: something about this worker changed."""
        self._now.set()

    async def run(self, running_jobs: RunningJobs, notes: Notes) -> None:
        """Sends heartbeats for ever; ends by cancellation only. A Redis that is away is waited for."""
        backoff, away = Backoff(), False
        while True:
            try:
                await self.once(running_jobs, notes)
                await keep_up(self._broker, self._model, self._rules)
            except RedisAway as error:
                if not away:
                    log.warning("waiting_for_redis", model=self._model, error=error.message)
                away, pause = True, backoff.take()
            else:
                if away:
                    log.info("redis_back", model=self._model)
                away, pause = False, self._lease / BEATS_PER_LEASE
                backoff.reset()
            await self._sleep(pause)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._now.wait()
        except TimeoutError:
            pass
        self._now.clear()

    async def once(self, running_jobs: RunningJobs, notes: Notes) -> None:
        """Sends one beat. Raises `RedisAway`."""
        if self._at_home:
            await announce(self._broker, self._model, self._names)  # each time: an operator may have emptied Redis
        async with running_jobs.ledger:
            lease_ms = int(self._lease * 1000)
            about = {**notes.about(), "names": json.dumps(self._names)}
            pulse = await beat(self._broker, self._model, self._worker, lease_ms, about, running_jobs.ids)
            self._compare(pulse, running_jobs, notes)
        self.signed_in.set()
        notes.wake()

    def _compare(self, pulse: Pulse, running_jobs: RunningJobs, notes: Notes) -> None:
        for id in pulse.lost:
            if (job := running_jobs.by_id(id)) and job.end is None:
                log.warning("job_lost", job=id, model=self._model, worker=self._worker)
                notes.drop(job)
        for claimed in pulse.unknown:
            log.warning("job_adopted", job=claimed.id, model=self._model, worker=self._worker)
            notes.adopt(claimed)
        for id in pulse.cancel:
            if job := running_jobs.by_id(id):
                notes.cancel(job)
        for id in pulse.preempt:
            if job := running_jobs.by_id(id):
                notes.preempt(job)
