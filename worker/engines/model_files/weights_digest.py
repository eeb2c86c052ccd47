"""Digests of what a model's tokens depend on: its weights, its vocabulary, its chat template."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from millstream.worker.engines.tokenizer import HuggingFaceTokenizer

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt")
_SAMPLES = 16  # pieces of each file that are looked at, spread over it
_PIECE = 65536  # bytes
_IDLE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")  # change no number


def words_of(tokenizer: HuggingFaceTokenizer) -> tuple[str, str]:
    """Returns the vocabulary and the chat template as text."""
    backend = getattr(tokenizer.inner, "backend_tokenizer", None)
    vocabulary: dict[str, int] = tokenizer.inner.get_vocab()  # pyright: ignore[reportUnknownMemberType]
    return backend.to_str() if backend is not None else json.dumps(vocabulary, sort_keys=True), tokenizer.chat_template


def weights_of(place: Path) -> str:
    """Returns a digest of the weights in a folder or file, empty if it is none: of each file its size and some pieces,
    and what config.json says of how they are computed (positions, quantisation and others). Weights that were trained
    further have the same sizes and names, but differ everywhere."""
    files = [place] if place.is_file() else sorted(each for each in _files(place) if each.suffix in _WEIGHTS)
    if not files:
        return ""
    digest = sha256()
    for file in files:
        for piece in _pieces(file):
            digest.update(piece)
    digest.update(_configuration(place).encode())
    return digest.hexdigest()


def _configuration(place: Path) -> str:
    file = place / "config.json"
    if not file.is_file():
        return ""
    told: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    return json.dumps({name: value for name, value in told.items() if name not in _IDLE}, sort_keys=True)


def _files(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())


def _pieces(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    yield str(size).encode()
    with file.open("rb") as opened:
        for number in range(_SAMPLES):
            opened.seek(number * max(size - _PIECE, 0) // (_SAMPLES - 1))
            yield opened.read(_PIECE)
