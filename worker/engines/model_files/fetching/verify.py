"""Compares what lies on the disk with what its source says, file by file."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from millstream.worker.engines.base import LoadProgress
from millstream.worker.engines.model_files.fetching import hub as hubs
from millstream.worker.engines.model_files.fetching.download import PARTIAL, difference
from millstream.worker.engines.model_files.fetching.listing import SourceFile
from millstream.worker.engines.model_files.fetching.modelscope import ModelScopeAccess, list_modelscope
from millstream.worker.engines.model_files.fetching.reasons import gib, is_network
from millstream.worker.engines.model_files.fetching.shelf import StoredModel

_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class FileCheck:
    """The result of a check: `wrong` has a line for each file that is not as it should be, `against` says what it was
    compared with."""

    files: int
    wrong: tuple[str, ...]
    against: str


def verify(kept: StoredModel, progress: LoadProgress) -> FileCheck:
    """Reads every file of a model on the disk. Raises the errors of a source that refuses, not of one that cannot be
    reached: then what it said when the files were fetched counts."""
    told = _asked(kept)
    by_path = {file.path: file for file in told or ()}
    files = [by_path.get(file.path, file) for file in kept.files]
    wrong: list[str] = []
    for number, file in enumerate(files):
        progress(f"reading {file.path}", number / len(files))
        if why := _wrong(file, kept.folder / file.path):
            wrong.append(f"{file.path}: {why}")
    wrong += [f"{path.name}: the beginning of a download, {gib(path.stat().st_size)}" for path in kept.left]
    if told is not None:
        against = f"what {kept.source} says now"
    else:
        against = f"what {kept.source} said when it was fetched, because it cannot be asked now"
    return FileCheck(len(files), tuple(wrong), against)


def _asked(kept: StoredModel) -> tuple[SourceFile, ...] | None:
    """Returns what the source lists now; None if it cannot be reached, or says nothing of checksums."""
    if hubs.is_offline() or kept.source == "url":
        return None
    try:
        if kept.source == "hub":
            return hubs.list_hub(hubs.the_hub(), kept.name, kept.revision).files
        return list_modelscope(ModelScopeAccess(), kept.name, kept.revision).files
    except Exception as error:  # each library has its own kinds; all but an unreachable source is raised
        if not is_network(error):
            raise
        return None


def _wrong(file: SourceFile, place: Path) -> str | None:
    if not place.is_file():
        return "missing"
    why = difference(file, place)
    if why is None and place.suffix == ".safetensors":
        return _damaged(place)
    return why


def verify_folder(folder: Path) -> FileCheck:
    """Checks a folder that came from nowhere we know: are all parts of its weights there, and each to its end?"""
    wrong = [f"{name}: missing, though {_INDEX} names it" for name in _parts(folder) if not (folder / name).is_file()]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        if path.name.endswith((PARTIAL, ".aria2", ".part")):
            wrong.append(f"{path.name}: the beginning of a download")
        elif path.suffix == ".safetensors" and (why := _damaged(path)):
            wrong.append(f"{path.name}: {why}")
    if not (folder / "config.json").is_file():
        wrong.append("config.json: missing")
    return FileCheck(len(files), tuple(wrong), "what its own files say; checksums are not known of a folder")


def _parts(folder: Path) -> Iterator[str]:
    try:
        told = cast(dict[str, Any], json.loads((folder / _INDEX).read_text(encoding="utf-8")))
        yield from sorted({str(name) for name in told["weight_map"].values()})
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        yield _INDEX + " (it cannot be read)"


def _damaged(path: Path) -> str | None:
    """Returns why a safetensors file is not whole, by its own head; None if it is."""
    size = path.stat().st_size
    try:
        with path.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            head = cast(dict[str, Any], json.loads(opened.read(length))) if length <= size else {}
        ends = [int(entry["data_offsets"][1]) for name, entry in head.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (struct.error, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "its head cannot be read"
    return None if size == whole else f"{size} of {whole} bytes"
