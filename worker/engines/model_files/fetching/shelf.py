"""The models that lie on this machine's disk, wherever they came from."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.model_files.fetching import hub as hubs
from millstream.worker.engines.model_files.fetching import own_store
from millstream.worker.engines.model_files.fetching.download import PARTIAL
from millstream.worker.engines.model_files.fetching.hub import Hub
from millstream.worker.engines.model_files.fetching.in_use import alone
from millstream.worker.engines.model_files.fetching.listing import SourceFile, SourceName, needed
from millstream.worker.engines.model_files.fetching.reasons import of_the_disk
from millstream.worker.engines.model_files.fetching.wanted import Wanted

_PREFIX = "models--"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One revision of a model on the disk. `root` holds all of it, `size` bytes with what other revisions share.
    `lacking`: the files that are missing or not whole; `left`: ends of downloads that were broken off."""

    source: SourceName
    name: str
    revision: str
    folder: Path
    root: Path
    files: tuple[SourceFile, ...]
    lacking: tuple[str, ...]
    left: tuple[Path, ...]

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in _all_files(self.root))

    @property
    def used(self) -> float:
        """Returns when one of its files was last read, or written where the disk does not note that (Unix time)."""
        times = [(self.folder / file.path).stat() for file in self.files if (self.folder / file.path).is_file()]
        return max((max(time.st_atime, time.st_mtime) for time in times), default=self.folder.stat().st_mtime)


def everything(cache_dir: Path) -> list[StoredModel]:
    """Returns all models of the hub's cache and of our own store, by name."""
    hub = hubs.the_hub()
    found = [kept for folder in sorted(hub.cache.glob(f"{_PREFIX}*--*")) for kept in _of_hub(hub, folder)]
    for folder, listing in own_store.manifests(own_store.store_of(cache_dir)):
        found.append(_kept((listing.source, listing.name, listing.revision), folder, folder, list(listing.files)))
    return sorted(found, key=lambda kept: (kept.name, kept.revision))


def of_name(wanted: Wanted, cache_dir: Path) -> list[StoredModel]:
    """Returns what lies there of a model, all revisions or the wanted one. Raises `LoadFailed` where there is
    nothing."""
    all_there = everything(cache_dir)
    there = [kept for kept in all_there if (kept.source, kept.name) == (wanted.source, wanted.name)]
    if wanted.source == "hub":
        commit = hubs.cached_commit(hubs.the_hub(), wanted.name, wanted.revision) if wanted.revision else None
        there = [kept for kept in there if wanted.revision is None or kept.revision == commit]
    elif wanted.revision:
        there = [kept for kept in there if kept.revision == wanted.revision]
    if not there:
        names = ", ".join(sorted({kept.name for kept in all_there})) or "none"
        raise LoadFailed(f"No model {wanted.given!r} lies on this machine. There are: {names}.", param="model")
    return there


def _of_hub(hub: Hub, folder: Path) -> Iterator[StoredModel]:
    name = folder.name.removeprefix(_PREFIX).replace("--", "/")
    with suppress(OSError):  # removed meanwhile
        for snapshot in sorted(path for path in (folder / "snapshots").glob("*") if path.is_dir()):
            files = _wanted_of(hub, name, snapshot)
            if files:
                yield _kept(("hub", name, snapshot.name), snapshot, folder, files)


def _wanted_of(hub: Hub, name: str, snapshot: Path) -> list[SourceFile]:
    """Returns what a snapshot should hold: a whole model, the GGUF files that somebody chose, or, of what others put
    into the cache, what is there."""
    told = hubs.remembered(hub, name, snapshot.name)
    chosen = [file for file in told if file.path.endswith(".gguf") and (snapshot / file.path).is_symlink()]
    if chosen:
        return chosen
    with suppress(LoadFailed):
        return needed(name, told)
    return [file for file in told if (snapshot / file.path).is_symlink()]


def _kept(known: tuple[SourceName, str, str], folder: Path, root: Path, files: list[SourceFile]) -> StoredModel:
    lacking = tuple(file.path for file in files if not hubs.lies_there(folder / file.path, file))
    left = tuple(sorted(root.rglob(f"*{PARTIAL}")))
    return StoredModel(*known, folder, root, tuple(files), lacking, left)


def _all_files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def remove(kept: list[StoredModel]) -> int:
    """Removes whole models, all revisions of each, and returns the bytes that are free now. Raises `LoadFailed` while
    a worker of this machine uses one, or where the disk forbids it."""
    roots = sorted({each.root for each in kept})
    size = sum(path.stat().st_size for root in roots for path in _all_files(root))
    with alone(kept[0].name, [each.folder for each in kept]):
        for root in roots:
            _remove(root, kept[0].source)
    return size


def _remove(root: Path, source: SourceName) -> None:
    try:
        shutil.rmtree(root)
    except OSError as error:
        variable = hubs.VARIABLE if source == "hub" else own_store.VARIABLE
        told = of_the_disk(error, root, variable) or f"{root} cannot be removed: {error}"
        raise LoadFailed(told) from error
    with suppress(OSError):
        shutil.rmtree(root.parent / ".locks" / root.name)
    Path(f"{root}.lock").unlink(missing_ok=True)
