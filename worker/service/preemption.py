"""Gives slots back to interactive jobs: a flex or batch job stops where it is, and goes on later, here or elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.workers import preempt
from millstream.common.job import ModelName, WorkerId
from millstream.common.process.backoff import Backoff
from millstream.worker.jobs.running_jobs import RunningJob, RunningJobs, left_by

log = structlog.stdlib.get_logger(part="preemption")


class Preemption:
    """The preemption of jobs of one model on one worker. A stream's token that is not in the log yet is not waited for,
    because the slot is wanted now: no client has seen it, and the worker that goes on makes it again. Of a job whose
    chunks leave in pieces there may be many: they go to the log first, and `settle` returns when Redis has them."""

    def __init__(
        self,
        broker: Broker,
        model: ModelName,
        worker: WorkerId,
        running_jobs: RunningJobs,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._broker = broker
        self._model = model
        self._worker = worker
        self._running_jobs = running_jobs
        self._settle = settle
        self._asked: dict[str, RunningJob] = {}
        self._ring = asyncio.Event()

    def ask(self, job: RunningJob) -> None:
        """Lets a job go; asking again is fine."""
        if self._running_jobs.has(job) and job.claimed.id not in self._asked:
            self._asked[job.claimed.id] = job
            self._ring.set()

    async def run(self, forget: Callable[[RunningJob], None]) -> None:
        """Lets go of the jobs that were asked for, which `forget` takes from the engine; ends by cancellation only."""
        backoff = Backoff()
        while True:
            await self._ring.wait()
            self._ring.clear()
            try:
                await self._give_back(forget, list(self._asked.values()))
                backoff.reset()
            except RedisAway:  # they stay ours, stopped, until Redis is back
                self._ring.set()
                await backoff.sleep()

    async def _give_back(self, forget: Callable[[RunningJob], None], jobs: list[RunningJob]) -> None:
        for job in jobs:
            forget(job)
        if any(job.drafts and not job.claimed.request.watched for job in jobs):  # up to a second's work
            await self._settle()
        async with self._running_jobs.ledger:
            replies: list[str] = []
            ours = [job for job in jobs if self._running_jobs.has(job) and job.end is None]
            held = [(job.claimed.id, job.claimed.lease) for job in ours]
            if held:
                replies = await preempt(self._broker, self._model, self._worker, held)
                log.info("jobs_preempted", model=self._model, worker=self._worker, jobs=[id for id, _ in held])
            for job, reply in zip(ours, replies, strict=True):
                self._running_jobs.remove(job, left_by(reply, "preempted"))
                forget(job)  # again: its prompt may have been rendered meanwhile
        for job in jobs:
            self._asked.pop(job.claimed.id, None)
