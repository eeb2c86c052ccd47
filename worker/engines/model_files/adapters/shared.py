"""One model in memory, with one batch and one cache, that is served under several names: as itself and with each of its
adapters."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

import structlog

from millstream.common.errors import Unavailable
from millstream.worker.engines.base import LoadProgress, ModelCard, Output, SequenceKey, SequenceSpec, Sink, TokenEngine
from millstream.worker.engines.model_files.adapters.folder import Adapter
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer

_LOOK = 1.0  # seconds between two looks whether what runs the model is still there

log = structlog.stdlib.get_logger(part="engine")


class AdaptableEngine(TokenEngine, Protocol):
    """A token engine that computes a sequence with the adapter whose digest its spec names."""

    @property
    def tokenizer(self) -> HuggingFaceTokenizer: ...

    def card_of(self, adapter: str) -> ModelCard:
        """Returns the card of the model with an adapter, by its digest."""
        ...


E = TypeVar("E", bound=AdaptableEngine)


class SharedEngine(ABC, Generic[E]):
    """Loads the model for the first who joins, and frees it when the last has left. `join`, `leave`, `put` and `take`
    block and are called in a thread; all else on the event loop."""

    def __init__(self, make: Callable[[], E]) -> None:
        self._make = make
        self._lock = Lock()
        self._members = 0
        self._engine: E | None = None
        self._card: ModelCard | None = None
        self._started = False
        self._sinks: dict[SequenceKey, Sink] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def engine(self) -> E:
        """Raises `Unavailable` before it is loaded."""
        if self._engine is None:
            raise Unavailable("The engine is not loaded.")
        return self._engine

    def join(self, progress: LoadProgress) -> ModelCard:
        """Returns the model's own card. Raises `MillstreamError`."""
        with self._lock:
            if self._engine is None or self._card is None:
                engine = self._make()
                self._card = engine.load(progress)
                self._engine = engine
            self._members += 1
            return self._card

    def leave(self) -> None:
        """Frees the model when nobody is left."""
        with self._lock:
            self._members -= 1
            if self._members == 0 and self._engine is not None:
                self._engine.close()
                self._engine, self._card, self._started = None, None, False

    # ------------------------------------------------------------------------------------------------------- adapters
    @abstractmethod
    def install(self, adapter: Adapter) -> int:
        """Brings an adapter beside the model, while it runs, and returns the bytes of all of them. One that is there
        is counted once more. Called under the lock. Raises `LoadFailed`."""

    @abstractmethod
    def remove(self, digest: str) -> None:
        """Takes an adapter away once nobody else uses it. Called under the lock."""

    @abstractmethod
    def memory_of(self, adapter: Adapter) -> int:
        """Returns the bytes of one adapter beside this model."""

    def put(self, adapter: Adapter) -> ModelCard:
        """Brings an adapter beside the model, while it runs, and returns the card of the two. Raises `LoadFailed`."""
        with self._lock:
            everything = self.install(adapter)
        needs = f"rank {adapter.rank}, {mebibytes(self.memory_of(adapter))}"
        log.info("adapter_loaded", adapter=adapter.source, needs=needs, all_adapters=mebibytes(everything))
        card = self.engine.card_of(adapter.digest)
        return replace(card, details={**card.details, "adapter": needs, "adapter_digest": adapter.digest[:12]})

    def take(self, digest: str) -> None:
        """Takes an adapter away and frees its memory."""
        with self._lock:
            self.remove(digest)

    def wait_for(self, done: Future[Any]) -> None:
        """Waits until work where the model runs is done, well or not. Raises `Unavailable` if the engine breaks."""
        while not done.done():
            if self.engine.broken is not None:
                raise Unavailable(f"The engine is broken: {self.engine.broken}")
            with suppress(TimeoutError):
                done.exception(timeout=_LOOK)

    # ------------------------------------------------------------------------------------------------------ sequences
    def start(self, changed: Callable[[], None]) -> None:
        """Begins to step, if it does not yet. `changed` is called whenever a full batch has a place again."""
        self._listeners.append(changed)
        if not self._started:
            self._started = True
            self._sinks.clear()
            self.engine.start(self._carry)

    def deafen(self, changed: Callable[[], None]) -> None:
        """Calls `changed` no more; unknown ones are fine."""
        self._listeners = [each for each in self._listeners if each is not changed]

    def add(self, spec: SequenceSpec, sink: Sink) -> None:
        """Adds a sequence whose outputs go to `sink`. Raises as the engine does."""
        self.engine.add(spec)
        self._sinks[spec.key] = sink

    def abort(self, key: SequenceKey) -> None:
        if self._sinks.pop(key, None) is not None and self._engine is not None:
            self._engine.abort(key)
            self._freed(1)

    def _carry(self, outputs: list[Output]) -> None:
        """Hands one step's outputs to those whose sequences they are, in one call for each."""
        shares: dict[Sink, list[Output]] = {}
        for output in outputs:
            over = output.finish is not None or output.error is not None
            sink = self._sinks.pop(output.key, None) if over else self._sinks.get(output.key)
            if sink is not None:
                shares.setdefault(sink, []).append(output)
        for sink, share in shares.items():
            sink(share)
        self._freed(sum(output.finish is not None or output.error is not None for output in outputs))

    def _freed(self, places: int) -> None:
        """Tells all, after `places` sequences have gone, if the batch was full before: any of them may go on now."""
        running = self._engine.stats().running if self._engine is not None else 0
        if places and self._engine is not None and running + places >= self._engine.slots:
            for changed in self._listeners:
                changed()


def mebibytes(count: int) -> str:
    return f"{count / 2**20:.2f} MiB"
