"""The simulated engine's tokens: a hash chain, so that a lost, repeated or foreign token is detected by any client.

Each token is a number of 31 bits that follows from the one before; its text is eight hexadecimal digits and a space.
The first follows from prompt and seed.
"""

import hashlib
from collections.abc import Sequence
from itertools import pairwise

SMALLEST = 0x00010000  # smaller ids are the simulated tokenizer's own
_SPAN = 0x80000000 - SMALLEST


def _hash(words: str) -> int:
    return SMALLEST + int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest()) % _SPAN


def chain_start(prompt: Sequence[int], seed: int) -> int:
    """The first token of an answer."""
    return _hash(f"{seed}:{','.join(map(str, prompt))}")


def chain_next(token: int) -> int:
    """The token after `token`."""
    return _hash(str(token))


def word_of(token: int) -> str:
    """A token's text."""
    return f"{token:08x} "


def check_chain(text: str) -> int | None:
    """The index of the first word that does not follow from the one before it; None if the chain is whole."""
    tokens = [int(word, 16) for word in text.split()]
    for i, (before, after) in enumerate(pairwise(tokens)):
        if chain_next(before) != after:
            return i + 1
    return None
