"""Sound at any rate to the rate at which models hear, band-limited: nothing that the new rate cannot hold folds back.

Each block of sound goes through its spectrum, which is cut or continued with zeros. A spectrum takes its block for a
circle, so a second of the neighbours is taken along on both sides and left out afterwards.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SoundBlock = NDArray[np.float32]

RATE = 16_000  # samples a second


def resampled(blocks: Iterator[SoundBlock], rate: int) -> Iterator[SoundBlock]:
    """Yields the same sound at `RATE`. `blocks`: sound at `rate`, whole seconds each but the last."""
    if rate == RATE:
        yield from blocks
        return
    before, block = np.zeros(rate, np.float32), next(blocks, None)
    while block is not None:
        following = next(blocks, None)
        after = following[:rate] if following is not None else np.zeros(0, np.float32)
        yield _resampled(before, block, after, rate)
        before, block = block[-rate:], following


def _resampled(before: SoundBlock, block: SoundBlock, after: SoundBlock, rate: int) -> SoundBlock:
    """Returns `block` at `RATE`; `before` is the second before it, `after` as much as there is of that after it."""
    seconds = math.ceil(len(block) / rate) + 2
    circle = np.zeros(seconds * rate, np.float32)
    circle[: rate + len(block)] = np.concatenate((before, block))
    circle[rate + len(block) : rate + len(block) + len(after)] = after
    other = np.fft.irfft(np.fft.rfft(circle), seconds * RATE) * (RATE / rate)
    return other[RATE : RATE + math.ceil(len(block) * RATE / rate)].astype(np.float32)
