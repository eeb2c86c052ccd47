"""Tokens into text, one at a time, never half a character."""

from collections.abc import Mapping, Sequence

from millstream.worker.engines.base import Tokenizer

_LONGEST = 4  # tokens one UTF-8 character can be split into


class Detokenizer:
    """A detokenizer, which tells what each further token makes readable. The pieces joined are the text of all tokens;
    each token costs the decoding of a few neighbours, however long the text is. `markers` are special tokens to write
    out all the same. `before`: the prompt, where the text goes on from it (else its first blank may be taken for the
    beginning's)."""

    def __init__(
        self, tokenizer: Tokenizer, markers: Mapping[int, str] | None = None, before: Sequence[int] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._markers = markers or {}
        self._context = list(before[-_LONGEST:])  # already written; a token's text may depend on the ones before it
        self._context_text = tokenizer.decode(self._context) if self._context else ""
        if self._context_text.endswith("\ufffd"):  # half a character, which the first tokens may complete
            self._context, self._context_text = [], ""
        self._pending: list[int] = []

    def feed(self, token: int) -> str:
        """Returns the text that is certain now and was not before."""
        if token in self._markers:
            text = self.flush() + self._markers[token]
            self._context, self._context_text = [], ""
            return text
        if self._pending and not self._tokenizer.decode([token]):
            return ""  # a special token in the middle of a character is no part of it
        self._pending.append(token)
        text = self._tokenizer.decode(self._context + self._pending)
        if not text.endswith("\ufffd"):
            return self._write(len(self._pending), text)
        return self._write(self._certain()) if len(self._pending) > _LONGEST else ""

    def flush(self) -> str:
        """Returns what is left at the end, an unfinished character as U+FFFD."""
        return self._write(len(self._pending))

    def _write(self, count: int, text: str | None = None) -> str:
        if not count:
            return ""
        written, self._pending = self._pending[:count], self._pending[count:]
        if text is None:
            text = self._tokenizer.decode(self._context + written)
        new = text[len(self._context_text) :]
        self._context, self._context_text = written, self._tokenizer.decode(written)
        return new

    def _certain(self) -> int:
        """Returns how many pending tokens cannot be part of a character still growing: too many wait for one character,
        so the model really made bytes that are none."""
        for index in range(len(self._pending) - 1, 0, -1):
            first = self._tokenizer.token_bytes(self._pending[index])[:1]
            if first and first[0] & 0xC0 != 0x80:
                return index
        return len(self._pending)
