"""The model's words: the Hugging Face tokenizer and chat template as the engine's `Tokenizer` protocol wants them."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from millstream.common.errors import BadRequest
from millstream.worker.engines.base import Shown
from millstream.worker.engines.chat_template import ChatTemplate

KNOWN = 1 << 16  # texts of single tokens kept: every token is decoded once more alone, as the next one's context


class HuggingFaceTokenizer:
    """Text to ids and back for one model. `eos_ids` are the model's own ends, from its generation config as well."""

    def __init__(
        self,
        inner: PreTrainedTokenizerBase,
        eos_ids: frozenset[int],
        chat_template: str | None = None,
        *,
        stops: tuple[str, ...] = (),
        special: bool = False,
    ) -> None:
        """`stops` end every answer of a chat; `special`: a chat's prompt gets the tokenizer's own special tokens."""
        self.inner = inner
        own = {inner.eos_token_id} if isinstance(inner.eos_token_id, int) else set[int]()
        self.eos_ids = frozenset(eos_ids | own)
        self.stops = stops
        self._special = special
        self._template = ChatTemplate(inner, chat_template)
        self._one = lru_cache(KNOWN)(self._decode)

    @property
    def chat_template(self) -> str:
        """Returns the template's text, empty if the model has none: a parser is chosen by it."""
        return self._template.text

    @property
    def shown(self) -> Shown:
        """Returns what the chat template shows."""
        return self._template.shown

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return list(self.inner.encode(text, add_special_tokens=special))

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        decode = self._one if len(ids) == 1 else self._decode
        return decode(*ids, skip_special=skip_special)

    def _decode(self, *ids: int, skip_special: bool) -> str:
        text = self.inner.decode(list(ids), skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)
        return text if isinstance(text, str) else "".join(text)

    def token_bytes(self, token: int) -> bytes:
        """Returns the bytes of exactly this token, also when they are only a part of a character."""
        piece = self.inner.convert_ids_to_tokens(token)
        if not isinstance(piece, str):
            return b""
        if token in self._added:
            return piece.encode()
        if self._byte_level and all(c in _BYTES for c in piece):
            return bytes(_BYTES[c] for c in piece)
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return piece.replace("\u2581", " ").encode()

    def chat(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], *, go_on: bool, kwargs: dict[str, Any]
    ) -> list[int]:
        """Returns the prompt's ids. `go_on`: the last message is the assistant's beginning. Raises `BadRequest`."""
        if not self.chat_template:
            raise BadRequest(
                "This model has no chat template: use /v1/completions, or start its worker with --chat-template (a "
                "file, or a name such as vicuna).",
                param="messages",
            )
        return self.encode(self._template.render(messages, tools, go_on, kwargs), special=self._special)

    @cached_property
    def _added(self) -> frozenset[int]:
        return frozenset(self.inner.added_tokens_decoder)

    @cached_property
    def _byte_level(self) -> bool:
        """Tells whether token texts spell bytes in GPT-2's alphabet."""
        backend = getattr(self.inner, "backend_tokenizer", None)
        if backend is None:
            return False
        return '"ByteLevel"' in json.dumps(json.loads(backend.to_str()).get("decoder"))


def _gpt2_bytes() -> dict[str, int]:
    """Returns GPT-2's alphabet: each byte as one printable character (openai/gpt-2, encoder.py)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


_BYTES = _gpt2_bytes()
