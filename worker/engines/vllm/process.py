"""vLLM at work in its own processes, and the way to them.

**The only file that calls vLLM's engine**, with `loading.py` and `requests.py`.
"""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false
# (vLLM is installed in few environments)

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from millstream.common.errors import BadRequest, EngineError
from millstream.common.job import Guide
from millstream.common.single_flight import SingleFlight
from millstream.worker.engines.base import SequenceSpec
from millstream.worker.engines.grammar.compiling import Vocabulary
from millstream.worker.engines.grammar.kept import Kept
from millstream.worker.engines.vllm.figures import VllmFigures
from millstream.worker.engines.vllm.hosted.guides import KEPT, KEPT_TEXT, guide_bytes
from millstream.worker.engines.vllm.lora.requests import LoraRequests
from millstream.worker.engines.vllm.requests import vllm_params, vllm_prompt
from millstream.worker.engines.vllm.tether import Tether


class EngineDied(EngineError):
    """vLLM's process is gone, and with it everything that ran there."""


class VllmProcess:
    """A loaded vLLM. `vocabulary` is told to it before the first guide."""

    def __init__(self, llm: Any, figures: VllmFigures, tether: Tether) -> None:
        self._llm = llm
        self._tether = tether
        self.figures = figures
        self.loras = LoraRequests(llm)
        self.vocabulary: Vocabulary | None = None
        self._learnt = SingleFlight(self._learn)
        self._knows = False
        self._compiled: Kept[bool] = Kept(KEPT // 2, KEPT_TEXT // 2)  # fewer than are kept there
        self._compiling = SingleFlight(self._compile)

    async def generate(self, spec: SequenceSpec, ends: frozenset[int]) -> AsyncGenerator[Any]:
        """Yields vLLM's outputs of one job; closed, it is aborted there. Raises `EngineDied`, and `BadRequest` for what
        vLLM refuses."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        if spec.guide is not None:
            await self._learnt(True)
        try:
            lora = await self.loras.of(spec.adapter)
            told = self._llm.generate(vllm_prompt(spec), vllm_params(spec, ends), spec.key, lora_request=lora)
            async with aclosing(told):
                async for output in told:
                    yield output
        except EngineDeadError as error:
            raise EngineDied(self.why_dead()) from error
        except (VLLMClientError, ValueError) as error:
            raise BadRequest(f"vLLM refuses this request: {error}") from error

    async def compile(self, guide: Guide) -> None:
        """Has a guide compiled there, and waits for it; the batch goes on meanwhile."""
        if self._compiled.get(guide) is None:
            await self._compiling(guide)

    async def _compile(self, guide: Guide) -> None:
        await self._learnt(True)
        data = guide_bytes(guide)
        await self._call("millstream_begin", data)
        while not all(await self._call("millstream_ready", data)):
            pass  # each question is a round trip, between two steps
        self._compiled.put(guide, True)

    async def _learn(self, _: bool) -> None:
        if self._knows or self.vocabulary is None:
            return
        words = self.vocabulary
        await self._call("millstream_learn", words.tokenizer, words.size, words.ends)
        self._knows = True

    async def _call(self, method: str, *arguments: object) -> list[Any]:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return await self._llm.collective_rpc(method, args=arguments)
        except EngineDeadError as error:
            raise EngineDied(self.why_dead()) from error

    @property
    def dead(self) -> bool:
        """Tells whether it can make no more tokens."""
        return bool(self._llm.errored)

    def why_dead(self) -> str:
        """Returns what its processes said last of all, as far as it is an error."""
        return f"vLLM's process died: {self._tether.log.cause() or 'it was killed, perhaps for its memory'}"

    def close(self) -> None:
        """Ends its processes."""
        self._llm.shutdown()
