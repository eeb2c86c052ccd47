"""An engine without a model: tokens at a chosen pace that prove themselves whole (`common.hashchain`), or exactly what
a request's script says (`worker.engines.simulated.script`). It keeps an engine's whole contract, continuation included.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from millstream.common.errors import ContextLengthExceeded, EngineError
from millstream.common.job import Guide
from millstream.worker.engines.base import (
    EngineStats,
    LoadProgress,
    ModelCard,
    Output,
    SequenceKey,
    SequenceSpec,
    Sink,
    always,
    silent,
    unheard,
)
from millstream.worker.engines.guide_limits import GuideLimits
from millstream.worker.engines.simulated.sequence import SimulatedSequence, sequence_for
from millstream.worker.engines.simulated.tokenizer import SimulatedTokenizer


@dataclass(frozen=True, slots=True)
class SimulatedSettings:
    """The behaviour of the simulated engine. A script may set another rate for its own sequence."""

    name: str = "simulated"
    slots: int = 8
    first_token: float = 0.0  # seconds from `add` to a sequence's first token
    rate: float = 0.0  # tokens per second of each sequence; 0: as fast as possible
    step_tokens: int = 1  # tokens each sequence gets per step
    context_length: int = 131_072
    speed: float = 1.0  # divides every delay: a faster machine
    default_length: int = 64  # tokens before the end of sequence when the client sets no max_tokens
    guide_limits: GuideLimits = field(default_factory=GuideLimits)


class SimulatedEngine:
    """Implements `worker.engines.base.TokenEngine`. One step advances every sequence that is due; idle, it does
    nothing."""

    kind: Literal["tokens"] = "tokens"
    steps = True

    def __init__(self, settings: SimulatedSettings | None = None) -> None:
        self.settings = settings or SimulatedSettings()
        self.slots = self.settings.slots
        self.guide_limits = self.settings.guide_limits
        self._tokenizer = SimulatedTokenizer()
        self._sequences: dict[SequenceKey, SimulatedSequence] = {}
        self._sink: Sink | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Handle | None = None
        self._steps = 0
        self._hung = False
        self._broken: BaseException | None = None

    def load(self, progress: LoadProgress = silent) -> ModelCard:
        capabilities = ("chat", "completions")
        length = self.settings.context_length
        name, exactness = self.settings.name, always("exact")
        return ModelCard(name, "simulated", length, "fp_simulated", capabilities, exactness=exactness)

    @property
    def tokenizer(self) -> SimulatedTokenizer:
        return self._tokenizer

    def start(self, sink: Sink, changed: Callable[[], None] = unheard) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()

    def prepare(self, spec: SequenceSpec) -> None:
        """Finds out what is wrong with a script or a guide."""
        sequence_for(spec, self._tokenizer, self.settings.default_length)

    async def compile(self, guide: Guide, tenant: str) -> None:
        """A script or the guide's smallest text: nothing is compiled."""

    def add(self, spec: SequenceSpec) -> None:
        if len(spec.prompt) + spec.max_tokens > self.settings.context_length:
            raise ContextLengthExceeded(
                f"This model's context length is {self.settings.context_length} tokens; the request asks for "
                f"{len(spec.prompt)} prompt tokens and {spec.max_tokens} completion tokens. Shorten one of them."
            )
        if self._loop is None or spec.key in self._sequences:
            raise EngineError("The engine has not been started." if self._loop is None else f"{spec.key} runs already.")
        sequence = sequence_for(spec, self._tokenizer, self.settings.default_length)
        sequence.due = self._first_due(sequence)
        self._sequences[spec.key] = sequence
        self._schedule()

    def abort(self, key: SequenceKey) -> None:
        if self._sequences.pop(key, None) is not None:
            self._schedule()

    def stats(self) -> EngineStats:
        running = min(len(self._sequences), self.slots)
        held = sum(len(s.spec.prompt) + s.made for s in islice(self._sequences.values(), self.slots))
        kv_use = min(1.0, held / (self.slots * self.settings.context_length))
        return EngineStats(running, self._steps, kv_use)

    @property
    def broken(self) -> BaseException | None:
        return self._broken

    def close(self) -> None:
        """Stop stepping; called from a thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._sequences.clear()
        self._schedule()

    def _interval(self, sequence: SimulatedSequence) -> float:
        """Returns the seconds between two steps of a sequence."""
        rate = self.settings.rate if sequence.rate is None else sequence.rate
        return self.settings.step_tokens / (rate * self.settings.speed) if rate > 0 else 0.0

    def _first_due(self, sequence: SimulatedSequence) -> float:
        """Returns when a new sequence's first token comes: on the batch's next step after its prefill."""
        assert self._loop is not None
        ready = self._loop.time() + self.settings.first_token / self.settings.speed
        interval = self._interval(sequence)
        running = next(islice(self._sequences.values(), 1), None)
        if running is None or interval == 0 or running.rate != sequence.rate:
            return ready
        return ready + (running.due - ready) % interval

    def _schedule(self) -> None:
        """Plan the next step at the earliest due moment, if any sequence runs."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if self._loop is None or not self._sequences or self._hung:
            return
        due = min(sequence.due for sequence in islice(self._sequences.values(), self.slots))
        soon = due <= self._loop.time()
        self._wake = self._loop.call_soon(self._step) if soon else self._loop.call_at(due, self._step)

    def _step(self) -> None:
        """Makes one step of the batch, at the moment it was planned for."""
        assert self._loop is not None and self._sink is not None
        now = self._loop.time()
        outputs: list[Output] = []
        for sequence in list(islice(self._sequences.values(), self.slots)):
            interval = self._interval(sequence)
            if sequence.due <= now + interval / 4:  # members of one batch step together
                sequence.due = max(sequence.due + interval, now)
                outputs += self._advance(sequence)
        self._steps += bool(outputs)
        try:
            if outputs:
                self._sink(outputs)
        except Exception as error:
            self._broken = error
            raise
        self._schedule()

    def _advance(self, sequence: SimulatedSequence) -> list[Output]:
        """Returns the tokens one sequence gets in this step."""
        outputs: list[Output] = []
        for _ in range(self.settings.step_tokens):
            match sequence.fault():
                case "crash":
                    os._exit(1)
                case "hang":
                    self._hung = True
                    return outputs
                case None:
                    outputs.append(sequence.advance())
            if outputs[-1].finish or outputs[-1].error:
                del self._sequences[sequence.spec.key]
                return outputs
        return outputs
