"""Models of ModelScope and single GGUF files, in a folder of our own: one folder for each revision, which never changes
once it is whole, and in it what the source said of its files."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from filelock import FileLock

from millstream.common.process.folders import own_folder
from millstream.worker.engines.model_files.fetching.download import Moved, digest_of, fetch
from millstream.worker.engines.model_files.fetching.hub import lies_there
from millstream.worker.engines.model_files.fetching.listing import Listing, SourceFile, SourceName

VARIABLE = "XDG_CACHE_HOME"
MANIFEST = ".millstream.json"
_ODD = re.compile(r"[^\w.@-]+")


def store_of(cache_dir: Path) -> Path:
    """Returns the folder of all of them, which need not exist."""
    return (cache_dir / "fetched").expanduser()


def _label(source: SourceName, name: str) -> str:
    """Returns how the folders of a model begin."""
    return f"{source}--{_ODD.sub('--', name)[-100:]}--{sha256(name.encode()).hexdigest()[:8]}"


def folder_of(store: Path, listing: Listing) -> Path:
    """Returns the folder of a revision: other files are another folder."""
    told = json.dumps([(file.path, file.size, file.sha256) for file in listing.files], sort_keys=True)
    digest = sha256(f"{listing.revision}\0{told}".encode()).hexdigest()[:12]
    return store / f"{_label(listing.source, listing.name)}@{digest}"


def manifests(store: Path) -> Iterator[tuple[Path, Listing]]:
    """Returns all folders and what they should hold, the newest first."""
    found = sorted(store.glob(f"*/{MANIFEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        if (listing := read_manifest(path.parent)) is not None:
            yield path.parent, listing


def read_manifest(folder: Path) -> Listing | None:
    """Returns what a folder should hold; None for one whose manifest cannot be read."""
    try:
        told = cast(dict[str, Any], json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        return Listing(
            told["source"], told["name"], told["revision"], tuple(SourceFile(**file) for file in told["files"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def kept(store: Path, source: SourceName, name: str, revision: str | None) -> tuple[Path, Listing] | None:
    """Returns the newest folder of a model; None if it was never fetched."""
    for folder, listing in manifests(store):
        if (listing.source, listing.name) == (source, name) and revision in (None, listing.revision):
            return folder, listing
    return None


def bring(store: Path, listing: Listing, moved: Moved) -> Path:
    """Fetches what is missing of the listing's files and returns their folder. Several processes may do so at once:
    one fetches, the others wait."""
    folder = folder_of(own_folder(store, VARIABLE, "HOME"), listing)
    folder.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        _write(folder, listing)
        told: list[SourceFile] = []
        for file in listing.files:
            place = folder / file.path
            if lies_there(place, file):
                moved(place.stat().st_size)
            else:
                fetch(file, place, listing.headers, moved)
            told.append(file if file.sha256 else _seen(file, place))
        _write(folder, Listing(listing.source, listing.name, listing.revision, tuple(told)))
    return folder


def _seen(file: SourceFile, place: Path) -> SourceFile:
    """Returns a file with the checksum that it came with, for a source that tells none."""
    return SourceFile(file.path, place.stat().st_size, digest_of(place), url=file.url)


def _write(folder: Path, listing: Listing) -> None:
    """Writes the manifest; what an earlier one knew of the same files stays."""
    told = {"source": listing.source, "name": listing.name, "revision": listing.revision, "time": int(time.time())}
    draft = folder / f"{MANIFEST}.new"
    draft.write_text(json.dumps({**told, "files": [asdict(file) for file in listing.files]}, indent=1))
    draft.replace(folder / MANIFEST)
