"""Jobs on a token engine: rendered to token ids here, run in its batch, its tokens made text here."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import monotonic

import msgspec
import structlog

from millstream.common.broker.connection.broker import Broker, RedisAway
from millstream.common.broker.jobs import owner
from millstream.common.chunk import Chunk, FinishReason
from millstream.common.errors import EngineError
from millstream.common.job import AudioInput, ChatPrompt, TextPrompt, TokensPrompt, WorkInput
from millstream.worker.engines.base import EngineStats, ModelCard, Output, TokenEngine, UpstreamLost
from millstream.worker.engines.routes import require
from millstream.worker.jobs.compute import capability_of, compute
from millstream.worker.jobs.drivers.computing import computed
from millstream.worker.jobs.drivers.driver import JobControl, check_same_model
from millstream.worker.jobs.prepare import Beginning, begin_sequence, brief, compile_guide, earlier_tokens
from millstream.worker.jobs.running_jobs import RunningJob, RunningJobs
from millstream.worker.text.parsers.formats import CallFormat

log = structlog.stdlib.get_logger(part="runner")


class TokenDriver:
    """Implements `Driver` for a token engine. Everything but the beginning of a job happens at once, on the event
    loop."""

    def __init__(
        self,
        engine: TokenEngine,
        card: ModelCard,
        broker: Broker,
        running_jobs: RunningJobs,
        control: JobControl,
        notation: CallFormat | None,
    ) -> None:
        self._engine = engine
        self.card = card
        self._broker = broker
        self._running_jobs = running_jobs
        self._control = control
        self._notation = notation
        self._paused = False

    @property
    def steps(self) -> bool:
        return self._engine.steps

    @property
    def slots(self) -> int:
        return self._engine.slots

    def start(self) -> None:
        self._engine.start(self.on_outputs, self._running_jobs.freed.set)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    @property
    def broken(self) -> BaseException | None:
        return self._engine.broken

    def forget(self, job: RunningJob) -> None:
        self._engine.abort(job.key)

    # ------------------------------------------------------------------------------------------------------- begin

    async def run(self, job: RunningJob, logged: Sequence[Chunk]) -> None:
        match job.claimed.request.input:
            case ChatPrompt() | TextPrompt() | TokensPrompt() as prompt:
                require(self.card, "chat" if isinstance(prompt, ChatPrompt) else "completions")
                await self._generate(job, logged)
            case AudioInput() as sound:
                require(self.card, capability_of(sound))
            case work:
                await self._compute(job, work)

    async def _generate(self, job: RunningJob, logged: Sequence[Chunk]) -> None:
        check_same_model(logged, self.card)
        job.tokens = earlier_tokens(logged)
        job.earlier = len(job.tokens)
        request = job.claimed.request
        begin = partial(begin_sequence, self._engine, self.card, request, job.key, job.tokens, notation=self._notation)
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

    async def _compute(self, job: RunningJob, work: WorkInput) -> None:
        result, tokens = await asyncio.to_thread(compute, self._engine, self.card, work, self._notation)
        self._control.end(job, computed(result, tokens, self.card))

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
        self._control.ring()

    # ------------------------------------------------------------------------------------------------------- carry

    def on_outputs(self, outputs: list[Output]) -> None:
        """Takes the engine's outputs: one call per step, on the event loop."""
        for output in outputs:
            job = self._running_jobs.by_key(output.key)
            if job is not None and job.end is None and not self._paused:
                self._carry(job, output)
        self._control.ring()

    def _carry(self, job: RunningJob, output: Output) -> None:
        if isinstance(output.error, UpstreamLost):
            self._control.give_back(job, output.error)
            return
        if output.error is not None:
            if self._engine.broken is None:  # else the job is not at fault: it moves on with all the others
                if isinstance(output.error, EngineError):  # only a step of the engine tells of its health
                    self._control.health.failed(monotonic())
                self._control.fail(job, output.error)
            return
        self._draft_start(job, output)
        job.cached = job.cached or output.cached
        if output.token >= 0 and job.transcript is not None:
            self._control.pace.tokens += 1
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
        log.warning("jobs_paused" if away else "jobs_resumed", model=self.card.name, jobs=len(self._running_jobs))
        for job in self._running_jobs:
            if job.spec is None or job.end is not None:
                continue
            if away:
                self._engine.abort(job.key)
            else:
                self._engine.add(replace(job.spec, generated=list(job.tokens)))

    def _end(self, job: RunningJob, reason: FinishReason) -> None:
        """Ends a finished job: what was held back goes first, then its last chunk."""
        assert job.transcript is not None
        self._control.end(job, job.transcript.end(reason, job.cached))
