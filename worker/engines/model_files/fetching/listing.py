"""The files of a model as its source lists them, and which of them a worker needs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Literal

from millstream.worker.engines.base import LoadFailed

SourceName = Literal["hub", "modelscope", "url"]
# Weights of other libraries, and what only people look at.
_OTHERS = (
    "*.onnx", "*.onnx_data", "*.h5", "*.msgpack", "*.ot", "*.tflite", "*.mlmodel", "*.mlpackage*", "*.gguf", "*.pdf",
    "onnx/*", "openvino/*", "coreml/*", "original/*", "metal/*", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.mp4",
    ".gitattributes", ".gitignore", "*.md", "LICENSE*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_NAMED = 5  # files that an error names


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as its source describes it. Where the source tells a checksum, it is `sha256`, or Git's own `git_sha1`
    for a small file of the hub. `size` is None where the source does not tell it."""

    path: str
    size: int | None
    sha256: str | None = None
    git_sha1: str | None = None
    url: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one revision of a model. `headers` go with each request for them."""

    source: SourceName
    name: str
    revision: str
    files: tuple[SourceFile, ...]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def needed(name: str, files: Iterable[SourceFile], gguf: str | None = None) -> list[SourceFile]:
    """Returns the files that a worker reads: of a GGUF file itself alone, else all but weights of other libraries and
    pickled weights beside the same as safetensors. Raises `LoadFailed` where there is nothing to serve, or a path that
    would leave the model's folder."""
    there = list(files)
    _check_paths(name, there)
    if gguf is not None:
        return [_one_gguf(name, there, gguf)]
    folders = {_folder(file) for file in there if file.path.endswith(".safetensors") and not _duplicate(file.path)}
    kept = [file for file in there if _is_read(file, folders)]
    if not any(file.path == "config.json" for file in kept):
        raise LoadFailed(_no_model(name, there), param="model")
    return kept


def _is_read(file: SourceFile, with_safetensors: set[str]) -> bool:
    if any(fnmatch(file.path, pattern) for pattern in _OTHERS):
        return False
    if _folder(file) not in with_safetensors:
        return True
    return not (_duplicate(file.path) or file.path.endswith(_PICKLED) or file.path.endswith(".bin.index.json"))


def _folder(file: SourceFile) -> str:
    return str(PurePosixPath(file.path).parent)


def _duplicate(path: str) -> bool:
    """Tells whether these are Mistral's own weights, which lie beside the same in the usual form."""
    return PurePosixPath(path).name.startswith("consolidated") and path.endswith(".safetensors")


def _check_paths(name: str, files: list[SourceFile]) -> None:
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or "\\" in file.path or not path.name:
            raise LoadFailed(f"{name!r} lists a file outside its own folder ({file.path!r}): it is not fetched.")


def _one_gguf(name: str, files: list[SourceFile], gguf: str) -> SourceFile:
    found = next((file for file in files if file.path == gguf), None)
    if found is None:
        raise LoadFailed(f"{name!r} has no file {gguf!r}. {_of_gguf(name, files)}", param="model")
    return found


def _no_model(name: str, files: list[SourceFile]) -> str:
    if any(file.path.endswith(".gguf") for file in files):
        return f"{name!r} has no config.json, but GGUF files. {_of_gguf(name, files)}"
    return f"{name!r} has no config.json: it is no model that transformers can load. Check the name."


def _of_gguf(name: str, files: list[SourceFile]) -> str:
    there = sorted(file.path for file in files if file.path.endswith(".gguf"))
    if not there:
        return "It has no GGUF file at all."
    more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
    return f"Name one of them: {', '.join(f'{name}/{path}' for path in there[:_NAMED])}{more}."
