"""Jobs on a text engine: each is a conversation with it, which lasts until the answer is complete."""

from collections.abc import Sequence
from contextlib import aclosing
from time import monotonic

from millstream.common.chunk import Chunk
from millstream.common.errors import EngineError
from millstream.common.job import AudioInput, ChatPrompt, TextPrompt, TokenizeInput, TokensPrompt
from millstream.worker.engines.base import EngineStats, ModelCard, TextEngine, TextSpec, UpstreamLost
from millstream.worker.engines.routes import require
from millstream.worker.jobs.compute import capability_of
from millstream.worker.jobs.drivers.computing import computed
from millstream.worker.jobs.drivers.driver import JobControl, check_same_model
from millstream.worker.jobs.running_jobs import RunningJob, RunningJobs


class TextDriver:
    """Implements `Driver` for a text engine. A job that is forgotten has its task cancelled, and with it the
    conversation. Nothing is paused while Redis is away: an answer that was cut could not be gone on with exactly."""

    steps = False
    broken: BaseException | None = None

    def __init__(self, engine: TextEngine, card: ModelCard, running_jobs: RunningJobs, control: JobControl) -> None:
        self._engine = engine
        self.card = card
        self._running_jobs = running_jobs
        self._control = control

    @property
    def slots(self) -> int:
        return self._engine.slots

    def start(self) -> None:
        self._engine.start(self._running_jobs.freed.set)

    async def run(self, job: RunningJob, logged: Sequence[Chunk]) -> None:
        try:
            match job.claimed.request.input:
                case ChatPrompt() | TextPrompt() | TokensPrompt() as prompt:
                    require(self.card, "chat" if isinstance(prompt, ChatPrompt) else "completions")
                    await self._answer(job, logged)
                case AudioInput() as sound:
                    require(self.card, capability_of(sound))
                    await self._answer(job, logged)
                case work:
                    if not isinstance(work, TokenizeInput):
                        require(self.card, capability_of(work))
                    result, tokens = await self._engine.compute(work)
                    self._control.end(job, computed(result, tokens, self.card))
        except UpstreamLost:
            raise
        except EngineError:
            self._control.health.failed(monotonic())
            raise

    async def _answer(self, job: RunningJob, logged: Sequence[Chunk]) -> None:
        check_same_model(logged, self.card)
        job.counted = job.earlier = sum(chunk.tokens for chunk in logged)
        async with aclosing(self._engine.answer(TextSpec(job.key, job.claimed.request, logged))) as chunks:
            async for chunk in chunks:
                if job.end is not None or not self._running_jobs.has(job):
                    return
                self._carry(job, chunk)

    def _carry(self, job: RunningJob, chunk: Chunk) -> None:
        job.counted += chunk.tokens
        self._control.pace.tokens += chunk.tokens
        if chunk.finish is not None:
            self._control.end(job, [chunk])
        else:
            job.draft(chunk)
            self._control.ring()

    def forget(self, job: RunningJob) -> None:
        job.stop_beginning()

    def pause_if(self, away: bool) -> None:
        pass

    def stats(self) -> EngineStats:
        return self._engine.stats()
