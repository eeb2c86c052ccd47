"""Jobs that generate nothing: their result is computed in a thread and is the whole answer."""

import asyncio
from collections.abc import Sequence
from time import monotonic

from millstream.common.chunk import Chunk, Result, Start, Usage
from millstream.common.errors import EngineError
from millstream.common.job import AudioInput, ChatPrompt, TextPrompt, TokensPrompt, WorkInput
from millstream.worker.engines.base import ComputingEngine, EngineStats, ModelCard
from millstream.worker.engines.routes import require
from millstream.worker.jobs.compute import capability_of, compute
from millstream.worker.jobs.drivers.driver import JobControl
from millstream.worker.jobs.running_jobs import RunningJob


class ComputingDriver:
    """Implements `Driver` for a model that only computes."""

    steps = False
    broken: BaseException | None = None

    def __init__(self, engine: ComputingEngine, card: ModelCard, control: JobControl) -> None:
        self._engine = engine
        self.card = card
        self._control = control

    @property
    def slots(self) -> int:
        return self._engine.slots

    def start(self) -> None:
        pass  # it computes when it is asked

    async def run(self, job: RunningJob, logged: Sequence[Chunk]) -> None:
        match job.claimed.request.input:
            case ChatPrompt():
                require(self.card, "chat")
            case TextPrompt() | TokensPrompt():
                require(self.card, "completions")
            case AudioInput() as sound:
                require(self.card, capability_of(sound))
            case work:
                result, tokens = await self._compute(work)
                self._control.end(job, computed(result, tokens, self.card))

    async def _compute(self, work: WorkInput) -> tuple[Result, int]:
        try:
            return await asyncio.to_thread(compute, self._engine, self.card, work)
        except EngineError:
            self._control.health.failed(monotonic())
            raise

    def forget(self, job: RunningJob) -> None:
        pass  # a forward pass cannot be interrupted

    def pause_if(self, away: bool) -> None:
        pass  # what runs is short

    def stats(self) -> EngineStats:
        return EngineStats(running=0, steps=0)


def computed(result: Result, tokens: int, card: ModelCard) -> list[Chunk]:
    """Returns the chunks of a result, for which `tokens` went in."""
    start = Start(prompt_tokens=tokens, fingerprint=card.fingerprint)
    return [Chunk(start=start), Chunk(result=result), Chunk(finish="stop", usage=Usage(prompt=tokens))]
