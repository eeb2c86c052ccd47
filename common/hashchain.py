"""Tokens that check themselves: the simulated engine's output is a chain in which each token follows from the one
before, so a client sees from the text alone whether a token was lost, repeated or came from another stream.

Ids lie in 2^30 .. 2^31-1, above every id of a text's tokens; a token's text is its id as eight hex digits and a space.
"""

from array import array
from collections.abc import Sequence
from hashlib import blake2b

CHAIN_BASE = 1 << 30
_MASK = CHAIN_BASE - 1
_FACTOR, _STEP = 0x2C1B3C6D - 0x2C1B3C6D % 4 + 1, 0x297A2D39  # a = 1 mod 4 and c odd: one cycle through all 2^30


def chain_start(prompt_ids: Sequence[int], seed: int) -> int:
    """Returns the first token of a generation: a hash of its prompt's ids and its seed."""
    digest = blake2b(array("q", prompt_ids).tobytes(), digest_size=4, salt=(seed & (1 << 64) - 1).to_bytes(8, "little"))
    return CHAIN_BASE | int.from_bytes(digest.digest(), "little") & _MASK


def chain_next(token: int) -> int:
    """Returns the token after this one. One full cycle, so that a chain never meets one of its own tokens again."""
    return CHAIN_BASE | ((token & _MASK) * _FACTOR + _STEP) & _MASK


def chain_text(token: int) -> str:
    """Returns a chain token as it is read: eight hex digits and a space."""
    return f"{token:08x} "


def check_chain(text: str, start: int | None = None) -> int | None:
    """Returns the index of the first word that does not follow from the one before, or None if the chain is whole.
    `start` is the token the chain must begin with, if the caller knows it (`chain_start`). Only whole tokens count as
    whole: a text that ends in the middle of one is broken there."""
    words = text.split(" ")
    if words.pop() != "":
        return len(words)
    expected = start
    for index, word in enumerate(words):
        if not _is_token(word) or (expected is not None and int(word, 16) != expected):
            return index
        expected = chain_next(int(word, 16))
    return None


def _is_token(word: str) -> bool:
    return len(word) == 8 and word[0] in "4567" and all(digit in "0123456789abcdef" for digit in word)
