"""Guides, compiled once with llguidance, kept, and followed token by token.

A guide that cannot be compiled is a `BadGrammar` that says why, before anything is generated. A continued sequence
feeds its earlier tokens to a fresh matcher and stands where it stood.
"""

# pyright: reportUnknownMemberType=false
# (torch's tensor methods are partly unknown to pyright)

import asyncio
from collections.abc import AsyncGenerator
from collections.abc import Sequence as Many
from contextlib import asynccontextmanager
from time import monotonic

import torch
from llguidance import LLMatcher

from millstream.common.errors import BadGrammar, Overloaded
from millstream.common.job import Guide
from millstream.common.single_flight import SingleFlight
from millstream.worker.engines.grammar.compiler import CompilerThreads
from millstream.worker.engines.grammar.compiling import Vocabulary, reason
from millstream.worker.engines.grammar.kept import Kept
from millstream.worker.engines.guide_limits import GuideLimits

_KEPT = 256  # compiled grammars
_KEPT_TEXT = 2 << 20  # characters of all of them; a compiled one takes up to 200 bytes for each
_REFUSED_FOR = 60.0  # seconds a refusal stands without another try: the choices of one request ask for the same


class Matcher:
    """The position of one sequence in its grammar."""

    def __init__(self, state: LLMatcher) -> None:
        self._state = state

    def consume(self, token: int) -> bool:
        """Go on by one token; False if the grammar does not allow it (`why` says more)."""
        return self._state.consume_token(token)

    @property
    def why(self) -> str:
        return reason(self._state)

    @property
    def stopped(self) -> bool:
        """Tells whether nothing but the end of the sequence can follow."""
        return self._state.is_stopped()

    def fill_mask(self, bits: torch.Tensor) -> None:
        """Write the allowed tokens as packed bits into `bits`: int32, contiguous, on the CPU, one bit per token."""
        self._state.unsafe_compute_mask_ptr(bits.data_ptr(), bits.numel() * bits.element_size())


class GuideCompiler:
    """Compiles guides for one tokenizer and keeps them. `compile` is for an event loop, `matcher` for any thread."""

    def __init__(self, vocabulary: Vocabulary, limits: GuideLimits) -> None:
        self._threads = CompilerThreads(vocabulary, vocabulary.load(), limits)
        self._compiled: Kept[LLMatcher] = Kept(_KEPT, _KEPT_TEXT)
        self._refused: Kept[tuple[float, BadGrammar]] = Kept(_KEPT, _KEPT_TEXT)
        self._patience = limits.seconds
        self._turns: dict[str, _Turn] = {}
        self._together: SingleFlight[tuple[Guide, str], None] = SingleFlight(self._compile)

    async def compile(self, guide: Guide, tenant: str) -> None:
        """Have the guide compiled, one of the tenant's at a time. When all who wait for it are cancelled it is given
        up. Raises `BadGrammar`."""
        if self._find(guide) is None:
            await self._together((guide, tenant))

    def matcher(self, guide: Guide, generated: Many[int] = ()) -> Matcher:
        """A matcher that stands after `generated`; blocks where the guide is not compiled. Raises `BadGrammar`."""
        state = self._find(guide) or self._keep(guide, self._threads.order(guide))
        matcher = Matcher(state.deep_copy())
        for token in generated:
            if not matcher.consume(token):
                raise BadGrammar(f"The tokens so far do not follow the grammar: {matcher.why}", param=guide.param)
        return matcher

    def close(self) -> None:
        """End the threads and their processes."""
        self._threads.close()

    async def _compile(self, asked: tuple[Guide, str]) -> None:
        guide, tenant = asked
        async with self._turn(tenant):
            if self._find(guide) is not None:
                return
            try:
                self._keep(guide, await self._threads.wait_for(guide))
            except BadGrammar as error:
                self._refused.put(guide, (monotonic() + _REFUSED_FOR, error))
                raise

    @asynccontextmanager
    async def _turn(self, tenant: str) -> AsyncGenerator[None]:
        """One at a time for each tenant; nothing is kept of one that asks for none."""
        turn = self._turns.setdefault(tenant, _Turn())
        turn.asked += 1
        try:
            await self._wait_for(turn)
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.asked -= 1
            if not turn.asked:
                del self._turns[tenant]

    async def _wait_for(self, turn: "_Turn") -> None:
        """No longer than one guide may take: meanwhile the job keeps a slot from others."""
        try:
            async with asyncio.timeout(self._patience):
                await turn.lock.acquire()
        except TimeoutError:
            message = "Other grammars of yours are still being compiled. Send this one again later, or fewer at once."
            raise Overloaded(message, retry_after=self._patience) from None

    def _find(self, guide: Guide) -> LLMatcher | None:
        """Raises again what a guide was refused with lately."""
        until, error = self._refused.get(guide) or (0.0, None)
        if error is not None and monotonic() < until:
            raise BadGrammar(error.message, param=error.param)
        return self._compiled.get(guide)

    def _keep(self, guide: Guide, compiled: LLMatcher) -> LLMatcher:
        self._compiled.put(guide, compiled)
        return compiled


class _Turn:
    """Decides whose turn it is among the guides of one tenant."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.asked = 0


def apply_masks(logits: torch.Tensor, matchers: Many[tuple[int, Matcher]]) -> None:
    """Make what the grammars do not allow impossible, in place: `logits` `[batch, vocabulary]`, `(row, matcher)`."""
    if not matchers:
        return
    size = logits.shape[1]
    bits = torch.zeros((len(matchers), (size + 31) // 32), dtype=torch.int32)
    for i, (_, matcher) in enumerate(matchers):
        matcher.fill_mask(bits[i])
    rows = torch.tensor([row for row, _ in matchers], device=logits.device)
    allowed = unpack_bits(bits.to(logits.device), size)
    logits[rows] = logits[rows].masked_fill(~allowed, float("-inf"))


def unpack_bits(bits: torch.Tensor, size: int) -> torch.Tensor:
    """Unpacks packed int32 `[n, words]` into booleans `[n, size]`, the lowest bit first."""
    octets = bits.view(torch.uint8).unsqueeze(-1)  # little-endian words: byte order is bit order
    places = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=bits.device)
    return ((octets & places) != 0).view(bits.shape[0], -1)[:, :size]
