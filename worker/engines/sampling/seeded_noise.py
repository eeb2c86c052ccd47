"""Sampling noise as a pure function of (seed, position, token): the same alone, in any batch, on any worker.

Gumbel-max: the arg-max of `logit / temperature + noise` is a draw from the softmax. The noise of one token does not
depend on any other, so rounding differences between batches hardly ever change a choice.
"""

# pyright: reportUnknownMemberType=false
# (torch's operators are partly unknown to pyright)

from collections.abc import Sequence as Many

import torch

from millstream.worker.engines.sampling.transfer import moved

_MASK64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix64(x: int) -> int:
    """Mixes with SplitMix64's finaliser (Steele, Lea, Flood 2014): every output bit depends on every input bit."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


def _signed32(x: int) -> int:
    x &= 0xFFFFFFFF
    return x - (1 << 32) if x >= (1 << 31) else x


def noise_key(seed: int, position: int) -> tuple[int, int]:
    """Returns two 32-bit words (signed, as torch wants them) that stand for one token's draw."""
    word = _mix64(_mix64((seed + _GOLDEN) & _MASK64) ^ ((position + 1) * _GOLDEN & _MASK64))
    return _signed32(word), _signed32(word >> 32)


class SeededNoise:
    """Gumbel noise for a vocabulary of `size` tokens."""

    def __init__(self, size: int, device: torch.device) -> None:
        ids = torch.arange(size, dtype=torch.int32, device=device)
        self._ids = _scramble(ids * _signed32(0x9E3779B1))  # a well mixed word for every token, made once

    def rows(self, keys: Many[tuple[int, int]]) -> torch.Tensor:
        """Returns noise of the whole vocabulary for each key: float32 `[len(keys), size]`."""
        return self._gumbel(self._ids.unsqueeze(0), keys)

    def at(self, keys: Many[tuple[int, int]], tokens: torch.Tensor) -> torch.Tensor:
        """Returns noise of chosen tokens `[len(keys), k]` only; the same numbers as `rows` has there."""
        return self._gumbel(self._ids[tokens], keys)

    def _gumbel(self, words: torch.Tensor, keys: Many[tuple[int, int]]) -> torch.Tensor:
        key = moved(keys, torch.int32, words.device)
        x = words ^ key[:, :1]
        x = _scramble(x)
        x = _scramble(x.add_(key[:, 1:]))
        uniform = x.bitwise_and_(0x7FFFFFFF).to(torch.float32).add_(0.5).mul_(2.0**-31)
        # log1p of a small number keeps the precision exactly where the winners are.
        return uniform.neg_().log1p_().neg_().log_().neg_()


def _scramble(x: torch.Tensor) -> torch.Tensor:
    """Does a 32-bit mixing round (constants of "lowbias32", C. Wellons), in place; int32 multiplication wraps."""
    x ^= (x >> 16) & 0xFFFF
    x *= _signed32(0x7FEB352D)
    x ^= (x >> 15) & 0x1FFFF
    x *= _signed32(0x846CA68B)
    x ^= (x >> 16) & 0xFFFF
    return x
