"""An engine without a model: deterministic tokens at a settable pace, for load and fault tests. It never pretends.

Its tokens are a hash chain (`common.hashchain`), so any client can tell a lost, repeated or foreign one.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from common.hashchain import SMALLEST, chain_next, chain_start, word_of
from worker.engines.base import (
    EngineStats,
    ModelCard,
    Output,
    Progress,
    RawLogprob,
    SequenceKey,
    SequenceSpec,
    Sink,
    silent,
)

EOS = 256  # above the bytes, below the chain


@dataclass(frozen=True, slots=True)
class SimulatedSettings:
    """`rate` is tokens/s of each sequence (0: as fast as the loop turns), `first_token` seconds of pretended prefill,
    `step_tokens` tokens of a sequence in one step, `default_length` tokens until end-of-sequence."""

    name: str = "simulated"
    slots: int = 8
    first_token: float = 0.0
    rate: float = 0.0
    step_tokens: int = 1
    default_length: int = 64
    context_length: int = 131_072


class ByteTokenizer:
    """Ids below 256 are bytes, 256 ends a sequence, larger ones are words of the chain."""

    eos_ids: frozenset[int] = frozenset((EOS,))

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        if token < EOS:
            return bytes((token,))
        return word_of(token).encode() if token >= SMALLEST else b""

    def chat(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], *, go_on: bool, kwargs: dict[str, Any]
    ) -> list[int]:
        lines = [f"{message['role']}: {message.get('content') or ''}" for message in messages]
        return self.encode("\n".join(lines) + ("" if go_on else "\nassistant: "))


@dataclass(slots=True)
class Running:
    """One sequence: how many tokens it has, and when its next step is due (monotonic seconds)."""

    spec: SequenceSpec
    made: list[int]
    due: float = 0.0

    def next_token(self, default_length: int) -> int:
        if len(self.made) >= default_length and not self.spec.sampling.ignore_eos:
            return EOS
        if self.made:
            return chain_next(self.made[-1])
        return chain_start(self.spec.prompt, self.spec.sampling.seed)


@dataclass(slots=True)
class SimulatedEngine:
    """Implements `Engine`. All sequences that are due make their tokens in one step."""

    settings: SimulatedSettings = field(default_factory=SimulatedSettings)
    slots: int = 0
    broken: BaseException | None = None
    tokenizer: ByteTokenizer = field(default_factory=ByteTokenizer)
    _running: dict[SequenceKey, Running] = field(default_factory=dict[SequenceKey, Running])
    _steps: int = 0
    _added: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.Task[None] | None = None

    def load(self, progress: Progress = silent) -> ModelCard:
        self.slots = self.settings.slots
        return ModelCard(self.settings.name, "simulated", self.settings.context_length, "fp_simulated")

    def start(self, sink: Sink) -> None:
        self._loop = asyncio.get_running_loop().create_task(self._step_for_ever(sink), name="simulated engine")

    def add(self, spec: SequenceSpec) -> None:
        self._running[spec.key] = Running(spec, list(spec.generated), monotonic() + self.settings.first_token)
        self._added.set()

    def abort(self, key: SequenceKey) -> None:
        self._running.pop(key, None)

    def stats(self) -> EngineStats:
        return EngineStats(len(self._running), self._steps)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.get_loop().call_soon_threadsafe(self._loop.cancel)

    async def _step_for_ever(self, sink: Sink) -> None:
        while True:
            if not self._running:
                self._added.clear()
                await self._added.wait()
            now = monotonic()
            outputs = [out for run in list(self._running.values()) if run.due <= now for out in self._step(run, now)]
            if outputs:
                self._steps += 1
                sink(outputs)
            due = min((run.due for run in self._running.values()), default=now)
            await asyncio.sleep(max(0.0, due - monotonic()))

    def _step(self, run: Running, now: float) -> list[Output]:
        outputs: list[Output] = []
        for _ in range(self.settings.step_tokens):
            token = run.next_token(self.settings.default_length)
            run.made.append(token)
            ends = token == EOS or token in run.spec.sampling.stop_token_ids
            finish = "stop" if ends else "length" if len(run.made) >= run.spec.max_tokens else None
            logprob = RawLogprob(-0.5, []) if run.spec.sampling.logprobs is not None else None
            outputs.append(Output(run.spec.key, token, logprob, finish))
            if finish:
                del self._running[run.spec.key]
                break
        pause = self.settings.step_tokens / self.settings.rate if self.settings.rate else 0.0
        run.due = max(run.due + pause, now - pause)  # keeps the pace, without a burst after a stall
        return outputs
