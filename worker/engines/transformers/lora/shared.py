"""One model in memory, with one batch and one cache, that is served under several names: as itself and with each of its
adapters."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from threading import Lock

import structlog

from millstream.common.errors import MillstreamError, Unavailable
from millstream.worker.engines.base import LoadProgress, ModelCard, Output, SequenceKey, SequenceSpec, Sink
from millstream.worker.engines.transformers.engine import TransformersEngine
from millstream.worker.engines.transformers.loading.failures import explained
from millstream.worker.engines.transformers.lora.folder import Adapter
from millstream.worker.engines.transformers.lora.loaded import LoadedAdapters, mebibytes

_LOOK = 1.0  # seconds between two looks whether the thread that runs the model is still there

log = structlog.stdlib.get_logger(part="engine")


class SharedEngine:
    """Loads the model for the first who joins, and frees it when the last has left. `join`, `leave`, `put` and `take`
    block and are called in a thread; all else on the event loop."""

    def __init__(self, make: Callable[[], TransformersEngine]) -> None:
        self._make = make
        self._lock = Lock()
        self._members = 0
        self._engine: TransformersEngine | None = None
        self._card: ModelCard | None = None
        self._started = False
        self._sinks: dict[SequenceKey, Sink] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def engine(self) -> TransformersEngine:
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
    def put(self, adapter: Adapter) -> ModelCard:
        """Brings an adapter beside the model, while it runs, and returns the card of the two. Raises `LoadFailed`."""
        loaded = self._adapters()
        with self._lock, explained(adapter.source, self.engine.device):
            loaded.check(adapter)
            self._between_steps(loaded.installing(adapter))
        needs = f"rank {adapter.rank}, {mebibytes(adapter.memory(self.engine.dtype))}"
        log.info("adapter_loaded", adapter=adapter.source, needs=needs, all_adapters=mebibytes(loaded.memory))
        card = self.engine.card_of(adapter.digest)
        return replace(card, details={**card.details, "adapter": needs, "adapter_digest": adapter.digest[:12]})

    def take(self, digest: str) -> None:
        """Takes an adapter away and frees its memory."""
        with self._lock:
            self._between_steps(self._adapters().removing(digest))

    def _adapters(self) -> LoadedAdapters:
        assert self.engine.adapters is not None
        return self.engine.adapters

    def _between_steps(self, work: Iterator[None]) -> None:
        """Waits until `work` is done where the model runs, and raises what it raises."""
        engine = self.engine
        if not self._started:
            for _ in work:
                pass
            return
        done: Future[None] = Future()
        engine.between_steps(_told(work, done))
        while not done.done():
            if engine.broken is not None:
                raise Unavailable(f"The engine is broken: {engine.broken}")
            _wait(done)
        done.result()

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


def _told(work: Iterator[None], done: Future[None]) -> Iterator[None]:
    """Yields as `work` does; its end, or its failure, goes to `done` alone."""
    try:
        yield from work
    except (MillstreamError, RuntimeError, MemoryError) as error:  # memory that is short; the batch goes on
        done.set_exception(error)
    else:
        done.set_result(None)


def _wait(done: Future[None]) -> None:
    try:
        done.exception(timeout=_LOOK)
    except TimeoutError:
        pass
