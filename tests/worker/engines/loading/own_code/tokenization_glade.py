"""A tokenizer of Python alone: a token for each byte, and an end."""

from typing import Any

from transformers import PreTrainedTokenizer


class GladeTokenizer(PreTrainedTokenizer):
    """Spells text as bytes."""

    vocab_files_names: dict[str, str] = {}
    model_input_names = ["input_ids"]

    def __init__(self, **others: Any) -> None:
        super().__init__(**({"eos_token": "<end>"} | others))

    @property
    def vocab_size(self) -> int:
        return 256

    def get_vocab(self) -> dict[str, int]:
        return {chr(byte): byte for byte in range(256)} | dict(self.added_tokens_encoder)

    def _tokenize(self, text: str, **others: Any) -> list[str]:
        return [chr(byte) for byte in text.encode()]

    def _convert_token_to_id(self, token: str) -> int:
        return ord(token)

    def _convert_id_to_token(self, index: int) -> str:
        return chr(index)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return bytes(ord(token) for token in tokens).decode(errors="replace")

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        return ()
