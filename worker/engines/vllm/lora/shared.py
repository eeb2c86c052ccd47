"""LoRA adapters beside a model in vLLM, many of them in one batch."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (vLLM is installed in few environments, and transformers publishes partly unknown types)

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from millstream.common.errors import MillstreamError
from millstream.common.process.folders import own_folder
from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.model_files.adapters.fitting import check_adapter, submodule
from millstream.worker.engines.model_files.adapters.folder import Adapter, write_adapter
from millstream.worker.engines.model_files.adapters.shared import SharedEngine
from millstream.worker.engines.vllm.engine import VllmEngine


class SharedVllm(SharedEngine[VllmEngine]):
    """Shares a model in vLLM. Adapters are written anew for vLLM, in one form, so that they are the same numbers there
    as with transformers; vLLM reads them when they come, and never in the middle of a step."""

    def __init__(self, make: Callable[[], VllmEngine]) -> None:
        super().__init__(make)
        self._uses: Counter[str] = Counter()
        self._there: dict[str, Adapter] = {}

    def install(self, adapter: Adapter) -> int:
        if not self._uses[adapter.digest]:
            self._fits(adapter)
            self.engine.offer_adapter(adapter.digest, self._written(adapter))
            self._there[adapter.digest] = adapter
            try:
                self._told(adapter.source, partial(self.engine.bring_adapter, adapter.digest))
            except BaseException:
                self._forget(adapter.digest)
                raise
        self._uses[adapter.digest] += 1
        return sum(map(self.memory_of, self._there.values()))

    def remove(self, digest: str) -> None:
        self._uses[digest] -= 1
        if self._uses[digest] <= 0:
            self._forget(digest)

    def memory_of(self, adapter: Adapter) -> int:
        return adapter.memory(self.engine.model_config.dtype)

    def _forget(self, digest: str) -> None:
        del self._uses[digest], self._there[digest]
        if self.engine.broken is None:
            self._told(digest, partial(self.engine.drop_adapter, digest))

    def _written(self, adapter: Adapter) -> Path:
        """Returns the folder of the adapter in vLLM's form, in the cache of what was converted."""
        place = self.engine.settings.cache_dir / "vllm-adapters"
        folder = own_folder(place, "XDG_CACHE_HOME", "HOME") / adapter.digest
        if not folder.is_dir():
            with TemporaryDirectory(dir=folder.parent, prefix=".") as new:
                write_adapter(adapter, made := Path(new) / "made")
                with suppress(OSError):  # another worker was faster
                    made.rename(folder)
        return folder

    def _fits(self, adapter: Adapter) -> None:
        if adapter.rank > (most := self.engine.most_rank):
            raise LoadFailed(
                f"The adapter {adapter.source!r} has rank {adapter.rank}, and vLLM was started for ranks up to {most}: "
                f"give --engine-args max-lora-rank=RANK, one of those that vLLM has.",
                param="adapter",
            )
        if (model := self._outline) is not None:
            check_adapter(adapter, partial(submodule, model), model.get_output_embeddings())
        ends = {name.rpartition(".")[2] for name in adapter.layers}
        if (room := self.engine.adapted_layers) and (others := ends - room):
            theirs, own = ", ".join(sorted(others)), ", ".join(sorted(room))
            raise LoadFailed(
                f"The adapter {adapter.source!r} changes {theirs}, and vLLM was started for adapters of {own}: restart "
                "the worker, or give --engine-args lora-target-modules.",
                param="adapter",
            )

    @cached_property
    def _outline(self) -> Any:
        """Returns the model without its weights; None for an architecture that transformers does not know."""
        from transformers import AutoModelForCausalLM

        try:
            with torch.device("meta"):
                return AutoModelForCausalLM.from_config(self.engine.model_config.hf_config)
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ImportError):  # vLLM has its own word
            return None

    def _told(self, source: str, work: Callable[[], Any]) -> None:
        """Waits until vLLM has done `work`, and raises `LoadFailed` for what it refuses. Before the start nobody can
        ask vLLM: then it is done before the adapter's first answer."""
        if (loop := self.engine.loop) is None:
            return
        done = asyncio.run_coroutine_threadsafe(work(), loop)
        self.wait_for(done)
        try:
            done.result()
        except MillstreamError:
            raise
        except Exception as error:
            why = " ".join(str(error).split())[:500]
            raise LoadFailed(f"vLLM does not take the adapter {source!r}: {why}", param="adapter") from error
