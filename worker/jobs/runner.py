"""Runs the held jobs of one model: begin, carry the engine's outputs into chunks, end.

Everything but the beginning of a job happens at once, on the event loop.
"""

import asyncio
from dataclasses import replace
from functools import partial
from time import monotonic

import msgspec
import structlog

from millstream.common.broker.chunks import read_log
from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.jobs import owner
from millstream.common.broker.workers import End, pass_on
from millstream.common.chunk import Chunk, FinishReason, Seq, Start, Usage, decode_chunk, encode_chunk
from millstream.common.errors import BadRequest, Cancelled, ContextLengthExceeded, EngineError, MillstreamError
from millstream.common.job import ChatPrompt, TextPrompt, TokensPrompt
from millstream.common.process.backoff import Backoff
from millstream.common.process.tasks import TaskGroup
from millstream.worker.engines.base import Engine, ModelCard, Output
from millstream.worker.jobs.circuit_breaker import CircuitBreaker
from millstream.worker.jobs.compute import Work, compute
from millstream.worker.jobs.outbox import Outbox
from millstream.worker.jobs.prepare import Beginning, begin_sequence, brief, compile_guide, earlier_tokens
from millstream.worker.jobs.running_jobs import RunningJob, RunningJobs
from millstream.worker.jobs.speed import SpeedMeter
from millstream.worker.text.parsers.formats import CallFormat

log = structlog.stdlib.get_logger(part="runner")


class Runner:
    """Between the holdings and the engine."""

    def __init__(
        self,
        broker: Broker,
        engine: Engine,
        card: ModelCard,
        running_jobs: RunningJobs,
        outbox: Outbox,
        notation: CallFormat | None = None,
    ) -> None:
        self._broker = broker
        self._engine = engine
        self._card = card
        self._running_jobs = running_jobs
        self._outbox = outbox
        self._notation = notation
        self._new: asyncio.Queue[RunningJob] = asyncio.Queue()
        self._paused = False
        self.pace = SpeedMeter()
        self.health = CircuitBreaker()

    # ------------------------------------------------------------------------------------------------------- begin

    def begin(self, job: RunningJob) -> None:
        """Let a job begin, in a task of `run`'s."""
        self._new.put_nowait(job)

    async def run(self) -> None:
        """Owns the tasks in which jobs begin; ends by cancellation only."""
        async with TaskGroup() as tasks:
            while True:
                job = await self._new.get()
                if self._running_jobs.has(job):
                    job.beginning = tasks.create_task(self._begin(job), name=f"begin {job.claimed.id}")

    async def _begin(self, job: RunningJob) -> None:
        try:
            await self._recall(job)
            match job.claimed.request.input:
                case ChatPrompt() | TextPrompt() | TokensPrompt():
                    await self._generate(job)
                case work:
                    await self._compute(job, work)
        except ContextLengthExceeded as error:
            await self._pass_on(job, error)
        except MillstreamError as error:
            self.fail(job, error)
        except RecursionError:
            why = (
                "The messages or the tools nest too deeply to be read. Put fewer objects and arrays inside each other."
            )
            self.fail(job, BadRequest(why, param="messages"))
        except Exception as error:
            log.exception("job_crashed", **job.facts)
            self.fail(job, EngineError(f"The worker could not run this request: {type(error).__name__}: {error}"))
        finally:
            job.beginning = None

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
            self.drop(job)
        elif longest > self._card.context_length:
            told = error.message.replace(f"length is {self._card.context_length} ", f"length is {longest} ")
            sizes = error.sizes and msgspec.structs.replace(error.sizes, room=longest)
            self.fail(job, ContextLengthExceeded(told, param=error.param, sizes=sizes))
        else:
            self.fail(job, error)

    async def _recall(self, job: RunningJob) -> None:
        """Read what earlier leases logged."""
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

    async def _generate(self, job: RunningJob) -> None:
        logged = [decode_chunk(raw) for raw in job.written]
        job.tokens = earlier_tokens(logged)
        request = job.claimed.request
        begin = partial(begin_sequence, self._engine, self._card, request, job.key, job.tokens, notation=self._notation)
        begun = begin() if brief(request, job.tokens) else await asyncio.to_thread(begin)
        await compile_guide(self._engine, begun, request, await self._tenant_of(job, begun))
        if not self._running_jobs.has(job) or job.end is not None:
            return
        job.spec, job.transcript = begun.spec, begun.transcript
        if not logged:
            job.start = begun.start
            if begun.spec.prompt_logprobs is None:  # else it waits for the engine to tell them
                self._draft_start(job)
        if begun.over is not None:
            self._end(job, begun.over)
        elif not self._paused:
            self._engine.add(begun.spec)

    async def _tenant_of(self, job: RunningJob, begun: Beginning) -> str:
        """Asked for only where it matters: tenants take turns with their guides."""
        if begun.spec.guide is None:
            return ""
        try:
            return await owner(self._broker, job.claimed.model, job.claimed.id) or ""
        except RedisAway:
            return ""

    async def _compute(self, job: RunningJob, work: Work) -> None:
        try:
            result, tokens = await asyncio.to_thread(compute, self._engine, self._card, work, self._notation)
        except EngineError:
            self.health.failed(monotonic())
            raise
        usage = Usage(prompt=tokens)
        self._close(
            job,
            End("finished", "stop", encode_chunk(usage), tokens),
            Chunk(start=Start(prompt_tokens=tokens, fingerprint=self._card.fingerprint)),
            Chunk(result=result),
            Chunk(finish="stop", usage=usage),
        )

    def _draft_start(self, job: RunningJob, output: Output | None = None) -> None:
        """Drafts chunk 1: the prompt was accepted."""
        if job.start is None or job.transcript is None:
            return
        start, job.start = job.start, None
        if output is not None and output.prompt_logprobs is not None:
            start = msgspec.structs.replace(
                start, prompt_logprobs=job.transcript.prompt_logprobs(output.prompt_logprobs)
            )
        job.draft(Chunk(start=start))
        self._outbox.ring()

    # ------------------------------------------------------------------------------------------------------- carry

    def on_outputs(self, outputs: list[Output]) -> None:
        """Takes the engine's outputs: one call per step, on the event loop."""
        for output in outputs:
            job = self._running_jobs.by_key(output.key)
            if job is not None and job.end is None and not self._paused:
                self._carry(job, output)
        self._outbox.ring()

    def _carry(self, job: RunningJob, output: Output) -> None:
        if output.error is not None:
            if self._engine.broken is None:  # else the job is not at fault: it moves on with all the others
                if isinstance(output.error, EngineError):  # only a step of the engine tells of its health
                    self.health.failed(monotonic())
                self.fail(job, output.error)
            return
        self._draft_start(job, output)
        job.cached = job.cached or output.cached
        if output.token >= 0 and job.transcript is not None:
            self.pace.tokens += 1
            job.tokens.append(output.token)
            job.draft(job.transcript.feed(output.token, output.logprob, output.finish))
            if job.transcript.stopped and output.finish is None:
                self._engine.abort(job.key)
                self._end(job, "stop")
                return
        if output.finish is not None:
            self._end(job, output.finish)

    def pause_if(self, away: bool) -> None:
        """Pauses the sequences while Redis is away for long; once it is back they go on where they were."""
        if away == self._paused:
            return
        self._paused = away
        log.warning("jobs_paused" if away else "jobs_resumed", model=self._card.name, jobs=len(self._running_jobs))
        for job in self._running_jobs:
            if job.spec is None or job.end is not None:
                continue
            if away:
                self._engine.abort(job.key)
            else:
                self._engine.add(replace(job.spec, generated=list(job.tokens)))

    # --------------------------------------------------------------------------------------------------------- end

    def _end(self, job: RunningJob, reason: FinishReason) -> None:
        """Ends a finished job: what was held back goes first, then its last chunk."""
        assert job.transcript is not None
        chunks = job.transcript.end(reason, job.cached)
        usage = chunks[-1].usage or Usage()
        end = End("finished", chunks[-1].finish or reason, encode_chunk(usage), usage.prompt + usage.completion)
        self._close(job, end, *chunks)

    def fail(self, job: RunningJob, error: MillstreamError) -> None:
        """Fails the job: its last chunk says why."""
        self._engine.abort(job.key)
        self._close(job, End("failed", "error", encode_chunk(job.usage), job.used), Chunk(error=error.failure()))

    def cancel(self, job: RunningJob) -> None:
        """Stops a job that nobody wants any more: its slot is free within one step."""
        job.stop_beginning()
        self._engine.abort(job.key)
        self.pace.wasted += len(job.tokens) - job.delivered if job.end is None else 0
        error = Cancelled("The request was cancelled.")
        self._close(job, End("cancelled", "cancelled", encode_chunk(job.usage), job.used), Chunk(error=error.failure()))

    def drop(self, job: RunningJob) -> None:
        """Forgets a job that is another worker's now."""
        self._engine.abort(job.key)
        self._running_jobs.remove(job)
        log.info("job_dropped", **job.facts, lease=job.claimed.lease)

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
