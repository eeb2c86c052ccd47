"""Measures what a token of one stream costs in our engine, beside a bare loop over the library's model, and prints the
ratio of both as JSON: processor time, one computing thread, in turns.

    python -m bench.quick.step
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

import asyncio
import json
import time
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from millstream.common.job import Sampling
from millstream.worker.engines.base import Output, SequenceKey, SequenceSpec, silent
from millstream.worker.engines.transformers.engine import TransformersEngine
from millstream.worker.engines.transformers.loading.load import locate
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource

PROMPT = [(31 * place) % 4000 + 10 for place in range(40)]
TOKENS = 12
ROUNDS = 7


class BareLoop:
    """Greedy decoding as one writes it by hand: the library's model and its own cache."""

    def __init__(self) -> None:
        path = locate(ModelSource(), silent).path
        self._model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    @torch.inference_mode()
    def spend(self) -> list[float]:
        """Returns the seconds of each token after the first."""
        ids, cache = torch.tensor([PROMPT]), None
        stamps: list[float] = []
        for _ in range(TOKENS):
            told = self._model(input_ids=ids, past_key_values=cache, use_cache=True)
            ids, cache = told.logits[:, -1:].argmax(-1), told.past_key_values
            stamps.append(time.process_time())
        return differences(stamps)


class OurEngine:
    """The engine of a worker, without Redis."""

    def __init__(self) -> None:
        self._engine = TransformersEngine(EngineSettings(max_model_len=2048, threads=1, prefix_sharing=False))
        self._engine.load()
        self._stamps: list[float] = []
        self._done = asyncio.Event()
        self._number = 0

    def start(self) -> None:
        self._engine.start(self._receive)

    async def spend(self) -> list[float]:
        """Returns the seconds of each token after the first."""
        self._number += 1
        self._stamps.clear()
        self._done.clear()
        key = SequenceKey(f"step-{self._number}")
        self._engine.add(SequenceSpec(key, PROMPT, Sampling(temperature=0.0, ignore_eos=True), TOKENS))
        await self._done.wait()
        return differences(self._stamps)

    def close(self) -> None:
        self._engine.close()

    def _receive(self, outputs: list[Output]) -> None:
        self._stamps.append(time.process_time())
        if any(output.finish or output.error for output in outputs):
            self._done.set()


def differences(stamps: list[float]) -> list[float]:
    """Returns the time from each stamp to the next."""
    return [later - earlier for earlier, later in pairwise(stamps)]


async def measure() -> float:
    """Returns our cost as a share of the bare loop's: the median of the rounds' ratios."""
    torch.set_num_threads(1)
    bare, ours = BareLoop(), OurEngine()
    ours.start()
    bare.spend()
    await ours.spend()
    ratios = [median(await ours.spend()) / median(bare.spend()) for _ in range(ROUNDS)]
    ours.close()
    return median(ratios)


if __name__ == "__main__":
    print(json.dumps({"ratio": asyncio.run(measure())}))
