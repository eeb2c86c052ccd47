"""Words that an answer may not say, as the sequences of tokens that would say them."""

from collections.abc import Iterable

from millstream.worker.engines.base import Tokenizer


def banned_sequences(tokenizer: Tokenizer, words: Iterable[str]) -> list[list[int]]:
    """Returns each word's tokens as it stands at the beginning of a text, and after a blank: tokenizers tell the two
    apart."""
    written = (f"{before}{word.lstrip()}" for word in words if word.strip() for before in ("", " "))
    found = (tuple(tokenizer.encode(text, special=False)) for text in written)
    return [list(tokens) for tokens in dict.fromkeys(found) if tokens]
