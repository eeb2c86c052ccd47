"""An engine on an event loop of its own, for tests that are plain functions."""

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from millstream.common.job import Guide, Sampling
from millstream.worker.engines.base import Output, SequenceKey, SequenceSpec
from millstream.worker.engines.transformers.settings import EngineSettings
from millstream.worker.engines.vllm.settings import VllmSettings

if TYPE_CHECKING:
    from millstream.worker.engines.transformers.loading.kinds import ModelKind


class Rig:
    """Loads, starts and drives one engine. `run` returns when all its sequences have ended."""

    def __init__(self, settings: EngineSettings | VllmSettings, does: "ModelKind" = "causal") -> None:
        self.engine = made(settings, does)
        self.card = self.engine.load()
        self.steps: list[list[Output]] = []
        self._numbers = itertools.count()
        self._runner = asyncio.Runner()
        self._news = asyncio.Event()
        self._runner.run(self._start())

    async def _start(self) -> None:
        self.engine.start(self._sink)

    def _sink(self, outputs: list[Output]) -> None:
        self.steps.append(outputs)
        self._news.set()

    def spec(self, prompt: list[int], max_tokens: int = 16, **more: Any) -> SequenceSpec:
        """Sampling parameters and the spec's own fields by name; greedy unless told otherwise."""
        own = {name: more.pop(name) for name in ("generated", "guide", "prompt_logprobs", "cache_salt") if name in more}
        sampling = Sampling(**({"temperature": 0.0, "ignore_eos": True} | more))
        key = SequenceKey(f"job-{next(self._numbers)}#1")
        return SequenceSpec(key, prompt, sampling, max_tokens, **own)

    def run(self, *specs: SequenceSpec) -> list[list[Output]]:
        """All in one batch; the outputs of each, in order."""
        return self._runner.run(self._collect(specs))

    def tokens(self, *specs: SequenceSpec) -> list[list[int]]:
        """The completion of each, earlier tokens included."""
        told = self.run(*specs)
        return [[*s.generated, *(o.token for o in outputs)] for s, outputs in zip(specs, told, strict=True)]

    def one(self, prompt: list[int], max_tokens: int = 16, **more: Any) -> list[int]:
        return self.tokens(self.spec(prompt, max_tokens, **more))[0]

    async def _collect(self, specs: tuple[SequenceSpec, ...]) -> list[list[Output]]:
        start = len(self.steps)
        for spec in specs:
            self.engine.add(spec)
        keys = [spec.key for spec in specs]
        while True:
            outputs = [o for step in self.steps[start:] for o in step]
            if {o.key for o in outputs if o.finish or o.error} >= set(keys):
                return [[o for o in outputs if o.key == key] for key in keys]
            await self.news()

    async def news(self) -> None:
        """Wait for the next step's outputs."""
        self._news.clear()
        await asyncio.wait_for(self._news.wait(), 60)

    def drive(self, coroutine: Any) -> Any:
        """Run anything else on the engine's event loop."""
        return self._runner.run(coroutine)

    def close(self) -> None:
        self.engine.close()
        self._runner.close()


def choice(*options: str) -> Guide:
    return Guide("choice", "[" + ", ".join(f'"{o}"' for o in options) + "]")


def made(settings: EngineSettings | VllmSettings, does: "ModelKind") -> Any:
    """Imported here: the libraries of the two are never in one environment."""
    if isinstance(settings, VllmSettings):
        from millstream.worker.engines.vllm.engine import VllmEngine

        return VllmEngine(settings)
    from millstream.worker.engines.transformers.engine import TransformersEngine

    return TransformersEngine(settings, does)
