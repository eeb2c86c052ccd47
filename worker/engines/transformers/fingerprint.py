"""Names what a model's tokens depend on, so that a job that one worker began is gone on with only by one like it."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.engines.transformers.loading.load import Loaded
from millstream.worker.engines.transformers.settings import EngineSettings

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt")
_SAMPLES = 16  # pieces of each file that are looked at, spread over it
_PIECE = 65536  # bytes


def fingerprint(loaded: Loaded, settings: EngineSettings, defaults: Mapping[str, float]) -> str:
    """Returns the same for the same weights, arithmetic, tokenizer, chat template and sampling defaults, whatever the
    model is called and wherever its files lie."""
    source = settings.source.model
    parts = (
        weights_of(Path(loaded.path)) or f"{source}|{loaded.revision}",
        str(loaded.model.dtype).removeprefix("torch."),
        str(settings.quantization),
        str(settings.adapter and (weights_of(Path(settings.adapter)) or settings.adapter)),
        *_words(loaded.tokenizer),
        json.dumps(dict(defaults), sort_keys=True),
    )
    return "fp_" + sha256("\0".join(parts).encode()).hexdigest()[:12]


def _words(tokenizer: HuggingFaceTokenizer) -> tuple[str, str]:
    """The vocabulary and the template."""
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
