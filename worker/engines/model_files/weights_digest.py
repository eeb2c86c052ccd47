"""Digests of what a model's tokens depend on: its weights, its vocabulary, its chat template."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from millstream.worker.engines.tokenizer import HuggingFaceTokenizer

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt")
_SAMPLES = 16  # pieces of each file that are looked at, spread over it
_PIECE = 65536  # bytes


def words_of(tokenizer: HuggingFaceTokenizer) -> tuple[str, str]:
    """Returns the vocabulary and the chat template as text."""
    backend = getattr(tokenizer.inner, "backend_tokenizer", None)
    vocabulary: dict[str, int] = tokenizer.inner.get_vocab()  # pyright: ignore[reportUnknownMemberType]
    return backend.to_str() if backend is not None else json.dumps(vocabulary, sort_keys=True), tokenizer.chat_template


def weights_of(place: Path) -> str:
    """Returns a digest of the weights in a folder or file, empty if it is none: of each file its size and some pieces.
    Weights that were trained further have the same sizes and names, but differ everywhere."""
    files = [place] if place.is_file() else sorted(each for each in _files(place) if each.suffix in _WEIGHTS)
    if not files:
        return ""
    digest = sha256()
    for file in files:
        for piece in _pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())


def _pieces(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    yield str(size).encode()
    with file.open("rb") as opened:
        for number in range(_SAMPLES):
            opened.seek(number * max(size - _PIECE, 0) // (_SAMPLES - 1))
            yield opened.read(_PIECE)
