"""The outbox, which sends to Redis what the jobs made: exactly one step call is in flight, and whatever comes meanwhile
goes with the next. So batching clocks itself, without a timer on the token path, and the first token leaves at once.

What nobody reads token by token is held back and leaves in pieces, all jobs' together: a step costs by its chunks."""

import asyncio
from collections.abc import Callable
from time import monotonic

import structlog

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.workers import JobStep, StepAnswer, StepReply, advance
from millstream.common.chunk import Seq
from millstream.common.job import ModelName, WorkerId
from millstream.common.process.backoff import Backoff
from millstream.worker.jobs.running_jobs import PIECE_SECONDS, RunningJob, RunningJobs

MAX_JOBS_PER_STEP = 128  # keeps the script near a millisecond

log = structlog.stdlib.get_logger(part="outbox")


class Outbox:
    """Flushes the holdings of one model. `on_answer` is told of jobs that are `fenced`, to `cancel` or to
    `preempt`."""

    def __init__(
        self,
        broker: Broker,
        model: ModelName,
        worker: WorkerId,
        running_jobs: RunningJobs,
        on_answer: Callable[[RunningJob, StepAnswer], None],
    ) -> None:
        self._broker = broker
        self._model = model
        self._worker = worker
        self._running_jobs = running_jobs
        self._on_answer = on_answer
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._everything = False  # pieces are not held back now
        self._reminder: asyncio.TimerHandle | None = None  # rings when the next piece is due
        self.away_since: float | None = None  # monotonic seconds since which Redis cannot be reached; None: it can

    def ring(self) -> None:
        """Says that some job has something to send."""
        self._work.set()

    async def run(self) -> None:
        """Sends drafts to Redis for ever; ends by cancellation only."""
        while True:
            await self._work.wait()
            self._work.clear()
            while batch := self._dirty():
                await self._flush(batch)
            self._everything = False
            self._idle.set()

    async def settle(self) -> None:
        """Waits until everything drafted so far has reached Redis."""
        self._idle.clear()
        self._everything = True
        self._work.set()
        await self._idle.wait()

    def _dirty(self) -> list[RunningJob]:
        """Returns the jobs of the next step; when there are more than fit, those that waited longest come first."""
        dirty: list[RunningJob] = []
        held: list[RunningJob] = []
        for job in self._running_jobs:
            if job.urgent:
                dirty.append(job)
            elif job.drafts:
                held.append(job)
        if held and self._pieces_due(held):
            dirty += held
        if len(dirty) > MAX_JOBS_PER_STEP:
            dirty.sort(key=lambda job: job.sent_at)
        return dirty[:MAX_JOBS_PER_STEP]

    def _pieces_due(self, held: list[RunningJob]) -> bool:
        """Tells whether the pieces that are held back are to go: all go when one is due, so that they share a step. If
        not, the outbox is rung when the first is due, though nothing more may be made until then."""
        now = monotonic()
        if self._everything or any(job.piece_due(now) for job in held):
            return True
        if self._reminder is None:
            wait = min(job.sent_at for job in held) + PIECE_SECONDS - now
            self._reminder = asyncio.get_running_loop().call_later(wait, self._remind)
        return False

    def _remind(self) -> None:
        self._reminder = None
        self.ring()

    async def _flush(self, batch: list[RunningJob]) -> None:
        now = monotonic()
        for job in batch:
            job.sent_at = now
        steps = [job.take_step() for job in batch]
        tokens = [job.completion for job in batch]
        reply = await self._send(steps)
        for job, sent, made, (answer, seq) in zip(batch, steps, tokens, reply.answers, strict=True):
            if self._running_jobs.has(job):
                self._settle_answer(job, sent, answer, seq, waits=reply.waits)
                if answer == "ok":
                    job.delivered = made

    def _settle_answer(self, job: RunningJob, sent: JobStep, answer: StepAnswer, seq: Seq, *, waits: bool) -> None:
        if answer == "fenced":
            self._on_answer(job, answer)
            return
        job.acked = seq
        if answer == "ok" and sent.ending is not None:
            self._running_jobs.remove(job, "ended", claim=waits)
        elif answer in ("cancel", "preempt"):
            self._on_answer(job, answer)

    async def _send(self, steps: list[JobStep]) -> StepReply:
        """Sends the one call in flight, again and again until Redis has answered it."""
        backoff = Backoff()
        while True:
            try:
                reply = await advance(self._broker, self._model, self._worker, steps)
            except RedisAway as error:
                if self.away_since is None:
                    self.away_since = monotonic()
                    log.warning("redis_away", error=error.message, jobs=len(steps))
                await backoff.sleep()
            else:
                if self.away_since is not None:
                    log.info("redis_back", after=round(monotonic() - self.away_since, 3))
                    self.away_since = None
                return reply
