"""Several names on one engine, on an event loop of their own, for tests that are plain functions."""

import asyncio
import itertools
from functools import partial
from pathlib import Path
from typing import Any

from millstream.common.job import Sampling
from millstream.worker.engines.base import GuideLimits, Output, SequenceKey, SequenceSpec
from millstream.worker.engines.model_files.adapters.engine import AdapterEngine
from millstream.worker.engines.model_files.adapters.shared import SharedEngine
from millstream.worker.engines.transformers.settings import EngineSettings
from millstream.worker.engines.vllm.settings import VllmSettings

Asked = tuple[str, SequenceSpec]
_numbers = itertools.count()


def spec(prompt: list[int], max_tokens: int = 16, **more: Any) -> SequenceSpec:
    """Returns a greedy one, unless told otherwise; sampling parameters and the spec's own fields by name."""
    own = {name: more.pop(name) for name in ("generated", "prompt_logprobs", "cache_salt") if name in more}
    sampling = Sampling(**({"temperature": 0.0, "ignore_eos": True} | more))
    return SequenceSpec(SequenceKey(f"job-{next(_numbers)}#1"), prompt, sampling, max_tokens, **own)


class SeveralNames:
    """The base (`""`) and adapters by name, each an engine to its users."""

    def __init__(self, settings: EngineSettings | VllmSettings, **adapters: Path) -> None:
        self.shared = shared(settings)
        self.engines: dict[str, AdapterEngine] = {}
        self.cards: dict[str, Any] = {}
        self.told: list[Output] = []
        self._runner = asyncio.Runner()
        self._news = asyncio.Event()
        for name, folder in {"": None, **adapters}.items():
            self.bring(name, folder)

    def bring(self, name: str, folder: Path | None) -> None:
        """Loads one more, as a worker does: in a thread, while the event loop runs."""
        self._runner.run(self._bring(name, folder))

    async def _bring(self, name: str, folder: Path | None) -> None:
        engine = AdapterEngine(self.shared, GuideLimits(), name or None, folder and str(folder))
        self.cards[name] = await asyncio.to_thread(engine.load)
        engine.start(self.sink)
        self.engines[name] = engine

    def sink(self, outputs: list[Output]) -> None:
        self.told += outputs
        self._news.set()

    def send_away(self, name: str) -> None:
        self._runner.run(asyncio.to_thread(self.engines.pop(name).close))

    def run(self, *asked: Asked) -> list[list[Output]]:
        """All in one batch; the outputs of each, in order."""
        return self._runner.run(self._run(asked))

    async def _run(self, asked: tuple[Asked, ...]) -> list[list[Output]]:
        self.told.clear()
        for name, each in asked:
            self.engines[name].add(each)
        return await self.ended([each.key for _, each in asked])

    async def ended(self, keys: list[SequenceKey]) -> list[list[Output]]:
        while not {output.key for output in self.told if output.finish or output.error} >= set(keys):
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 300)  # vLLM compiles some of its functions when first asked
        return [[output for output in self.told if output.key == key] for key in keys]

    def tokens(self, *asked: Asked) -> list[list[int]]:
        """The completion of each, earlier tokens included."""
        told = self.run(*asked)
        return [[*each.generated, *(o.token for o in outs)] for (_, each), outs in zip(asked, told, strict=True)]

    def drive(self, coroutine: Any) -> Any:
        """Runs anything else on the event loop."""
        return self._runner.run(coroutine)

    def close(self) -> None:
        for name in list(self.engines):
            self.send_away(name)
        self._runner.close()


def shared(settings: EngineSettings | VllmSettings) -> SharedEngine[Any]:
    """Imported here: the libraries of the two are never in one environment."""
    if isinstance(settings, VllmSettings):
        from millstream.worker.engines.vllm.engine import VllmEngine
        from millstream.worker.engines.vllm.lora.shared import SharedVllm

        return SharedVllm(partial(VllmEngine, settings))
    from millstream.worker.engines.transformers.engine import TransformersEngine
    from millstream.worker.engines.transformers.lora.beside import SharedTransformers

    return SharedTransformers(partial(TransformersEngine, settings))
