"""The engine of one name: a model that others share, alone or with an adapter."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from millstream.common.job import Guide
from millstream.worker.engines.base import (
    EngineStats,
    GuideLimits,
    LoadFailed,
    LoadProgress,
    ModelCard,
    Output,
    SequenceKey,
    SequenceSpec,
    Sink,
    silent,
    unheard,
)
from millstream.worker.engines.model_files.adapters.folder import read_adapter
from millstream.worker.engines.model_files.adapters.shared import SharedEngine
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer


class AdapterEngine:
    """Implements `TokenEngine`. To its clients and its queue it is a model of its own; it computes in the batch of the
    model that it shares. `source`: the adapter's folder or hub id; None: the model as it is, called as the shared
    engine's settings say."""

    kind: Literal["tokens"] = "tokens"
    steps = True

    def __init__(
        self, shared: SharedEngine[Any], guide_limits: GuideLimits, name: str | None = None, source: str | None = None
    ) -> None:
        self._shared = shared
        self._name = name
        self._source = source
        self._digest = ""
        self._joined = False
        self._running: set[SequenceKey] = set()
        self._sink: Sink | None = None
        self._changed: Callable[[], None] = unheard
        self.guide_limits = guide_limits

    # ----------------------------------------------------------------------------------------------------------- life
    def load(self, progress: LoadProgress = silent) -> ModelCard:
        """Loads the model if nobody has, then the adapter, while the others' sequences go on. Raises
        `MillstreamError`."""
        progress("reading the adapter", None)
        adapter = read_adapter(self._source) if self._source is not None else None
        card = self._shared.join(progress)
        self._joined = True
        if adapter is None:
            return card
        try:
            if self._name in (None, card.name):
                raise LoadFailed(f"The adapter {self._source!r} needs another name than its model's.", param="adapter")
            card = self._shared.put(adapter)
        except BaseException:
            self.close()
            raise
        self._digest = adapter.digest
        return replace(card, name=self._name)

    def start(self, sink: Sink, changed: Callable[[], None] = unheard) -> None:
        self._sink = sink
        self._changed = changed
        self._shared.start(changed)

    def close(self) -> None:
        """Gives the adapter's memory back, and the model's if nobody else uses it."""
        joined, self._joined = self._joined, False
        digest, self._digest = self._digest, ""
        self._shared.deafen(self._changed)
        if digest:
            self._shared.take(digest)
        if joined:
            self._shared.leave()

    # ---------------------------------------------------------------------------------------------------- the contract
    @property
    def slots(self) -> int:
        """Returns how many sequences it may have: what the others leave of the batch's places, but one at least, which
        then waits for a place."""
        engine = self._shared.engine
        others = engine.stats().running - len(self._running)
        return max(1, engine.slots - others)

    @property
    def tokenizer(self) -> HuggingFaceTokenizer:
        return self._shared.engine.tokenizer

    def prepare(self, spec: SequenceSpec) -> None:
        self._shared.engine.prepare(spec)

    async def compile(self, guide: Guide, tenant: str) -> None:
        await self._shared.engine.compile(guide, tenant)

    def add(self, spec: SequenceSpec) -> None:
        """Raises `BadGrammar`, `ContextLengthExceeded`, `BadRequest`; `Unavailable` once broken."""
        self._shared.add(replace(spec, adapter=self._digest), self._receive)
        self._running.add(spec.key)

    def abort(self, key: SequenceKey) -> None:
        if key in self._running:
            self._running.discard(key)
            self._shared.abort(key)

    def stats(self) -> EngineStats:
        """Returns the batch's figures, with its own sequences alone as running ones."""
        return replace(self._shared.engine.stats(), running=len(self._running))

    @property
    def broken(self) -> BaseException | None:
        return self._shared.engine.broken if self._joined else None

    def _receive(self, outputs: list[Output]) -> None:
        self._running -= {output.key for output in outputs if output.finish or output.error}
        if self._sink is not None:
            self._sink(outputs)
