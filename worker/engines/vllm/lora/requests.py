"""The LoRA adapters that vLLM has, or will have read before their first answer."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (vLLM is installed in few environments)

from pathlib import Path
from typing import Any

from millstream.common.single_flight import SingleFlight


class LoraRequests:
    """vLLM's `LoRARequest` of each adapter, by its digest. That is also its name in vLLM, and so in the keys of the
    prefix cache: no two adapters share what is cached, and one that goes and comes back finds its own again."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._known: dict[str, Any] = {}
        self._read: set[str] = set()
        self._reading = SingleFlight(self._bring)
        self._last = 0

    def offer(self, digest: str, folder: Path) -> None:
        """Makes an adapter known, from any thread."""
        from vllm.lora.request import LoRARequest

        self._last += 1
        self._known[digest] = LoRARequest(digest, self._last, str(folder))

    async def of(self, digest: str) -> Any:
        """Returns what a request names its adapter with, once vLLM has read it; None for the model alone. Raises what
        vLLM raises."""
        if not digest:
            return None
        if digest not in self._read:
            await self._reading(digest)
        return self._known[digest]

    async def drop(self, digest: str) -> None:
        """Has vLLM forget an adapter; unknown ones are fine."""
        known = self._known.pop(digest, None)
        if digest in self._read:
            self._read.discard(digest)
            await self._llm.remove_lora(known.lora_int_id)

    async def _bring(self, digest: str) -> None:
        await self._llm.add_lora(self._known[digest])
        self._read.add(digest)
