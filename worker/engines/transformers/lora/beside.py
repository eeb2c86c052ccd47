"""Adapters computed beside a model of transformers, brought and taken away between two steps of its batch."""

from collections.abc import Iterator
from concurrent.futures import Future

from millstream.common.errors import MillstreamError
from millstream.worker.engines.model_files.adapters.folder import Adapter
from millstream.worker.engines.model_files.adapters.shared import SharedEngine
from millstream.worker.engines.transformers.engine import TransformersEngine
from millstream.worker.engines.transformers.loading.failures import explained
from millstream.worker.engines.transformers.lora.loaded import LoadedAdapters


class SharedTransformers(SharedEngine[TransformersEngine]):
    """Shares a model of transformers."""

    def install(self, adapter: Adapter) -> int:
        loaded = self._adapters()
        with explained(adapter.source, self.engine.device):
            loaded.check(adapter)
            self._between_steps(loaded.installing(adapter))
        return loaded.memory

    def remove(self, digest: str) -> None:
        self._between_steps(self._adapters().removing(digest))

    def memory_of(self, adapter: Adapter) -> int:
        return adapter.memory(self.engine.dtype)

    def _adapters(self) -> LoadedAdapters:
        assert self.engine.adapters is not None
        return self.engine.adapters

    def _between_steps(self, work: Iterator[None]) -> None:
        """Waits until `work` is done where the model runs, and raises what it raises."""
        if not self._started:
            for _ in work:
                pass
            return
        done: Future[None] = Future()
        self.engine.between_steps(_told(work, done))
        self.wait_for(done)
        done.result()


def _told(work: Iterator[None], done: Future[None]) -> Iterator[None]:
    """Yields as `work` does; its end, or its failure, goes to `done` alone."""
    try:
        yield from work
    except (MillstreamError, RuntimeError, MemoryError) as error:  # memory that is short; the batch goes on
        done.set_exception(error)
    else:
        done.set_result(None)
