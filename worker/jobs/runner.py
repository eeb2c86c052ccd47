"""Runs the held jobs of one model, whatever its engine is: begin, and every way in which a job ends."""

import asyncio
from collections.abc import Sequence

import msgspec
import structlog

from millstream.common.broker.chunks import read_log
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.workers import End, pass_on, retry
from millstream.common.chunk import Chunk, Seq, Usage, decode_chunk, encode_chunk
from millstream.common.errors import BadRequest, Cancelled, ContextLengthExceeded, EngineError, MillstreamError
from millstream.common.job import WorkerId
from millstream.common.process.backoff import Backoff
from millstream.common.process.tasks import TaskGroup
from millstream.worker.engines.base import UpstreamLost
from millstream.worker.jobs.circuit_breaker import CircuitBreaker
from millstream.worker.jobs.drivers.choice import DriverOf
from millstream.worker.jobs.outbox import Outbox
from millstream.worker.jobs.running_jobs import Leaving, RunningJob, RunningJobs, left_by
from millstream.worker.jobs.speed import SpeedMeter

log = structlog.stdlib.get_logger(part="runner")


class Runner:
    """Between the holdings and the driver of the engine."""

    def __init__(
        self,
        broker: Broker,
        worker: WorkerId,
        running_jobs: RunningJobs,
        outbox: Outbox,
        driver: DriverOf,
        max_attempts: int = 3,
    ) -> None:
        self._broker = broker
        self._worker = worker
        self._running_jobs = running_jobs
        self._outbox = outbox
        self._max_attempts = max_attempts
        self._new: asyncio.Queue[tuple[RunningJob, UpstreamLost | None]] = asyncio.Queue()  # to begin, or to give back
        self.pace = SpeedMeter()
        self.health = CircuitBreaker()
        self.driver = driver(self)

    # ------------------------------------------------------------------------------------------------------- begin

    def begin(self, job: RunningJob) -> None:
        """Lets a job begin, in a task of `run`'s."""
        self._new.put_nowait((job, None))

    def give_back(self, job: RunningJob, error: UpstreamLost) -> None:
        """Lets a job go on elsewhere, or here later, because what computed it is lost."""
        self._new.put_nowait((job, error))

    async def run(self) -> None:
        """Owns the tasks in which jobs begin or are given back; ends by cancellation only."""
        async with TaskGroup() as tasks:
            while True:
                job, lost = await self._new.get()
                if lost is not None:
                    tasks.create_task(self._give_back(job, lost), name=f"give back {job.claimed.id}")
                elif self._running_jobs.has(job):
                    job.beginning = tasks.create_task(self._begin(job), name=f"begin {job.claimed.id}")

    async def _begin(self, job: RunningJob) -> None:
        """Runs a job and ends it if that fails. Whoever cancels what begins it has ended it already."""
        try:
            error = await self._run(job)
        finally:
            job.beginning = None
        if isinstance(error, UpstreamLost):
            await self._give_back(job, error)
        elif isinstance(error, ContextLengthExceeded):
            await self._pass_on(job, error)
        elif error is not None:
            self.fail(job, error)

    async def _run(self, job: RunningJob) -> MillstreamError | None:
        """Returns what went wrong, if something did."""
        try:
            await self._recall(job)
            await self.driver.run(job, [decode_chunk(raw) for raw in job.written])
        except MillstreamError as error:
            return error
        except RecursionError:
            why = (
                "The messages or the tools nest too deeply to be read. Put fewer objects and arrays inside each other."
            )
            return BadRequest(why, param="messages")
        except Exception as error:
            log.exception("job_crashed", **job.facts)
            return EngineError(f"The worker could not run this request: {type(error).__name__}: {error}")
        return None

    async def _pass_on(self, job: RunningJob, error: ContextLengthExceeded) -> None:
        """Lets a worker with a longer context have the job, if there is one; else it fails, and the error names the
        longest there is."""
        longest: int | None = 0
        if error.needed and not job.written:
            try:
                longest = await pass_on(self._broker, job.claimed, error.needed)
            except RedisAway:
                longest = 0
        if longest is None:
            self.drop(job, "passed_on")
        elif longest > self.driver.card.context_length:
            told = error.message.replace(f"length is {self.driver.card.context_length} ", f"length is {longest} ")
            sizes = error.sizes and msgspec.structs.replace(error.sizes, room=longest)
            self.fail(job, ContextLengthExceeded(told, param=error.param, sizes=sizes))
        else:
            self.fail(job, error)

    async def _recall(self, job: RunningJob) -> None:
        """Reads what earlier leases logged."""
        backoff = Backoff()
        while len(job.written) < job.claimed.seq:
            try:
                page = await read_log(self._broker, job.claimed.model, job.claimed.id, Seq(len(job.written)))
            except RedisAway:
                await backoff.sleep()
                continue
            if not page:
                raise EngineError("The tokens made so far are no longer in the chunk log.")
            job.written += [raw for _, raw in page]
        job.acked = len(job.written)
        self.pace.continued += len(job.written) > 1  # the first only says that the prompt was accepted

    def ring(self) -> None:
        self._outbox.ring()

    # --------------------------------------------------------------------------------------------------------- end

    def end(self, job: RunningJob, chunks: Sequence[Chunk]) -> None:
        """Ends a finished job: what was held back goes first, then its last chunk."""
        usage = chunks[-1].usage or Usage()
        finish = chunks[-1].finish or "stop"
        self._close(job, End("finished", finish, encode_chunk(usage), usage.prompt + usage.completion), *chunks)

    def fail(self, job: RunningJob, error: MillstreamError) -> None:
        """Fails the job: its last chunk says why."""
        self.driver.forget(job)
        self._close(job, End("failed", "error", encode_chunk(job.usage), job.used), Chunk(error=error.failure()))

    def cancel(self, job: RunningJob) -> None:
        """Stops a job that nobody wants any more: its slot is free within one step."""
        job.stop_beginning()
        self.driver.forget(job)
        self.pace.wasted += job.completion - job.delivered if job.end is None else 0
        error = Cancelled("The request was cancelled.")
        self._close(job, End("cancelled", "cancelled", encode_chunk(job.usage), job.used), Chunk(error=error.failure()))

    def drop(self, job: RunningJob, why: Leaving | None = None) -> None:
        """Forgets a job that is another worker's now; `why` is None if it was taken from this one."""
        self.driver.forget(job)
        self._running_jobs.remove(job, why)
        log.info("job_dropped", **job.facts, lease=job.claimed.lease)

    async def _give_back(self, job: RunningJob, error: UpstreamLost) -> None:
        """Gives a job back whose upstream is lost: it goes on elsewhere, or here later. What was made so far goes to
        the log first."""
        log.warning("job_given_back", **job.facts, error=error.message, counts=bool(error.attempts))
        backoff = Backoff()
        while self._running_jobs.has(job) and job.end is None:
            await self._outbox.settle()
            try:
                async with self._running_jobs.ledger:
                    if self._running_jobs.has(job) and job.end is None:
                        held = [(job.claimed.id, job.claimed.lease)]
                        costs = (error.attempts, self._max_attempts)
                        replies = await retry(self._broker, job.claimed.model, self._worker, held, *costs)
                        self._running_jobs.remove(job, left_by(replies[0], "given_back"))
            except RedisAway:
                await backoff.sleep()

    def _close(self, job: RunningJob, end: End, *last: Chunk) -> None:
        if job.end is None and self._running_jobs.has(job):
            job.finish(end, *last)
            self.pace.job_done(job.age, job.made)
            if end.state == "finished":
                self.health.succeeded()
            why = last[-1].error if end.state == "failed" else None
            facts = {"code": why.code, "error": why.message} if why else {}
            log.info("job_ended", **job.facts, state=end.state, finish=end.finish, tokens=job.used, **facts)
            self._outbox.ring()
