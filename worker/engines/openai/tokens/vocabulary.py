"""The tokenizer of an upstream's model, loaded here, and the check that it is the upstream's own."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from transformers import AutoTokenizer, GenerationConfig

from millstream.common.errors import BadRequest
from millstream.common.job import TokenizeInput
from millstream.worker.engines.base import LoadFailed, LoadProgress
from millstream.worker.engines.model_files.generation_defaults import end_ids, generation_defaults
from millstream.worker.engines.model_files.named_templates import with_template
from millstream.worker.engines.model_files.sample_models import SAMPLE_CHAT, SAMPLE_CHAT_NAME, sample_chat_folder
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.settings import Address
from millstream.worker.engines.openai.tokenizing import tokenized
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer

PROOF = "The quick brown fox, 1234567890: naïve café, 漢字 🦀\n\tdef f(x): return x ** 2"


class UpstreamVocabulary:
    """A tokenizer with what the model's makers recommend. `defaults` are of sampling, empty where its files say
    nothing."""

    def __init__(self, tokenizer: HuggingFaceTokenizer, defaults: Mapping[str, float]) -> None:
        self.tokenizer = tokenizer
        self.defaults = dict(defaults)
        self.size = len(tokenizer.inner)

    @cached_property
    def digest(self) -> str:
        """Returns what tells this vocabulary, its ends and its chat template from others."""
        words = json.dumps(self.tokenizer.inner.get_vocab(), sort_keys=True)
        told = f"{words}|{sorted(self.tokenizer.eos_ids)}|{self.tokenizer.chat_template}"
        return hashlib.sha256(told.encode()).hexdigest()

    @cached_property
    def by_bytes(self) -> dict[bytes, int]:
        """Returns each token by its bytes; of several with the same bytes, the first."""
        found: dict[bytes, int] = {}
        for token in range(self.size):
            found.setdefault(self.tokenizer.token_bytes(token), token)
        found.pop(b"", None)
        return found

    def split(self, data: bytes, count: int) -> list[int]:
        """Returns `count` tokens that spell `data`. Raises `ValueError` where there are none."""
        if not data or count < 1:
            raise ValueError("nothing to spell")
        for length in range(len(data) - count + 1, 0, -1):
            token = self.by_bytes.get(data[:length])
            if token is None:
                continue
            if length == len(data):
                return [token]
            try:
                return [token, *self.split(data[length:], count - 1)]
            except ValueError:
                continue
        raise ValueError(f"no {count} tokens spell {data!r}")


def load_vocabulary(
    source: str, cache: Path, progress: LoadProgress, chat_template: Path | None = None
) -> UpstreamVocabulary:
    """Loads a tokenizer from a folder, a GGUF file, a hub id or the sample's name. Raises `LoadFailed`."""
    progress("loading the tokenizer", None)
    if source in (SAMPLE_CHAT, SAMPLE_CHAT_NAME):
        source = str(sample_chat_folder(cache, progress))
    path = Path(source).expanduser()
    if source.startswith((".", "/", "~")) and not path.exists():
        raise LoadFailed(f"--tokenizer {source!r}: there is no such folder or file.", param="tokenizer")
    try:
        if path.is_file():
            inner = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        else:
            inner = AutoTokenizer.from_pretrained(path if path.exists() else source)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        told = " ".join(str(error).split())[:300]
        message = f"--tokenizer {source!r} cannot be loaded: {told}. Give a folder, a GGUF file or a hub id."
        raise LoadFailed(message, param="tokenizer") from error
    own = _generation_config(source, path)
    tokenizer = with_template(inner, end_ids(own.get("eos_token_id")), chat_template)
    if not tokenizer.eos_ids:
        message = f"--tokenizer {source!r} has no end token, so that no answer would end: add `eos_token` to it."
        raise LoadFailed(message, param="tokenizer")
    _ = tokenizer.shown  # found out here, because it would hold the event loop up later
    return UpstreamVocabulary(tokenizer, generation_defaults(own))


def _generation_config(source: str, path: Path) -> dict[str, Any]:
    """Returns what the model's files say of generation, empty where there are none."""
    if path.is_file():
        return {}
    try:
        return GenerationConfig.from_pretrained(path if path.exists() else source).to_diff_dict()
    except (OSError, ValueError):
        return {}


async def check_same(
    client: httpx.AsyncClient, address: Address, abilities: Abilities, vocabulary: UpstreamVocabulary
) -> None:
    """Raises `LoadFailed` for a tokenizer that splits text in another way than the upstream does. Where the upstream
    does not tell its tokens, nothing is checked."""
    if not abilities.tokenizes:
        return
    try:
        told = await tokenized(client, address, abilities, TokenizeInput(text=PROOF, add_special_tokens=False))
    except BadRequest:
        return
    ours = vocabulary.tokenizer.encode(PROOF, special=False)
    if told.ids != ours:
        at = next((at for at, (a, b) in enumerate(zip(told.ids, ours, strict=False)) if a != b), 0)
        raise LoadFailed(
            f"--tokenizer is not that of {abilities.model}: of the same text it makes {len(ours)} tokens, and the "
            f"upstream {address.root} makes {len(told.ids)}; token {at + 1} is the first that differs. Give the "
            "folder, GGUF file or hub id of the model that is served.",
            param="tokenizer",
        )
