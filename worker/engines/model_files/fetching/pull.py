"""Brings a model to this machine, or finds it there: the one way for `millstream models pull`, for workers and `up`."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import structlog

from millstream.worker.engines.base import LoadFailed, LoadProgress
from millstream.worker.engines.model_files.fetching import hub as hubs
from millstream.worker.engines.model_files.fetching import own_store
from millstream.worker.engines.model_files.fetching.address import list_address
from millstream.worker.engines.model_files.fetching.hub import Hub
from millstream.worker.engines.model_files.fetching.in_use import FolderMark
from millstream.worker.engines.model_files.fetching.listing import Listing, SourceFile, needed
from millstream.worker.engines.model_files.fetching.modelscope import ModelScopeAccess, list_modelscope
from millstream.worker.engines.model_files.fetching.reasons import disk_full, free, gib, is_network, sourced
from millstream.worker.engines.model_files.fetching.wanted import Wanted

log = structlog.stdlib.get_logger(part="models")


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that lies whole on this machine. `hold` marks it as used while it lives."""

    folder: Path
    revision: str
    files: tuple[SourceFile, ...]
    gguf: str | None
    hold: FolderMark

    @property
    def size(self) -> int:
        """Returns the bytes of its files."""
        return sum((self.folder / file.path).stat().st_size for file in self.files)


class _Count:
    """Adds up what came, and tells it in steps of one percent; several threads may call it."""

    def __init__(self, stage: str, total: int, progress: LoadProgress) -> None:
        self._stage, self._total, self._progress = stage, max(total, 1), progress
        self._came, self._told, self._lock = 0, -1, Lock()

    def moved(self, count: int) -> None:
        with self._lock:
            self._came += count
            percent = min(100 * self._came // self._total, 100)
            if percent > self._told:
                self._told = percent
                self._progress(self._stage, percent / 100)


def pull(wanted: Wanted, cache_dir: Path, progress: LoadProgress, *, check: bool = False) -> Pulled:
    """Returns the model, after fetching what is missing of it; blocks meanwhile. Without a network, and where the cache
    may only be read, what lies there whole is taken. `check`: read all of it once more, and fetch what is broken.
    Raises `LoadFailed` with the cause and the remedy."""
    if wanted.source == "hub":
        hub = hubs.the_hub()
        with sourced(wanted.given, hubs.VARIABLE, hub.cache):
            return _pull_hub(hub, wanted, progress, check)
    store = own_store.store_of(cache_dir)
    with sourced(wanted.given, own_store.VARIABLE, store):
        return _pull_own(store, wanted, progress, check)


# ------------------------------------------------------------------------------------------------------------- the hub


def _pull_hub(hub: Hub, wanted: Wanted, progress: LoadProgress, check: bool) -> Pulled:
    commit = hubs.cached_commit(hub, wanted.name, wanted.revision)
    if not check and commit is not None and (commit == wanted.revision or not _writable(hub.folder(wanted.name))):
        found = _from_cache(hub, wanted, commit)
        if found is not None:
            return found
    listing = _listed(wanted, lambda: hubs.list_hub(hub, wanted.name, wanted.revision), commit is not None)
    if listing is None:
        found = _from_cache(hub, wanted, commit) if commit is not None else None
        if found is None:
            raise LoadFailed(_not_whole(hub, wanted, commit), param="model")
        return found
    files = needed(wanted.name, listing.files, wanted.gguf)
    snapshot = hub.snapshot(wanted.name, listing.revision)
    if check:
        progress("checking what is there", None)
        hubs.drop_broken(snapshot, files)
    if all(hubs.lies_there(snapshot / file.path, file) for file in files) and listing.revision == commit:
        return _pulled(snapshot, listing.revision, files, wanted.gguf)
    counted = _begin(wanted, snapshot, files, hub.cache, hubs.VARIABLE, progress)
    folder = hubs.bring(hub, listing, files, wanted.revision, counted.moved)
    return _pulled(folder, folder.name, files, wanted.gguf)


def _from_cache(hub: Hub, wanted: Wanted, commit: str) -> Pulled | None:
    """Returns what lies in the cache, if it is whole."""
    files = _needed_of_cache(hub, wanted, commit)
    snapshot = hub.snapshot(wanted.name, commit)
    if files is None or not all(hubs.lies_there(snapshot / file.path, file) for file in files):
        return None
    return _pulled(snapshot, commit, files, wanted.gguf)


def _needed_of_cache(hub: Hub, wanted: Wanted, commit: str) -> list[SourceFile] | None:
    try:
        return needed(wanted.name, hubs.remembered(hub, wanted.name, commit), wanted.gguf)
    except LoadFailed:
        return None


def _not_whole(hub: Hub, wanted: Wanted, commit: str | None) -> str:
    files = (_needed_of_cache(hub, wanted, commit) or []) if commit else []
    lacking = [f.path for f in files if not hubs.lies_there(hub.snapshot(wanted.name, commit or "") / f.path, f)]
    return _half(wanted.given, lacking)


def _half(name: str, lacking: list[str]) -> str:
    named = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
    return (
        f"{name!r} was not downloaded to its end ({named or 'its config.json'} missing), and its source cannot be "
        f"reached: run `millstream models pull {name}` with a network (HF_HUB_OFFLINE must not be set)."
    )


# ------------------------------------------------------------------------------------------------------- our own store


def _pull_own(store: Path, wanted: Wanted, progress: LoadProgress, check: bool) -> Pulled:
    found = own_store.kept(store, wanted.source, wanted.name, wanted.revision)
    if found is not None and not check and not _writable(found[0]) and not _missing(*found):
        return _pulled(found[0], found[1].revision, list(found[1].files), wanted.gguf)
    listing = _listed(wanted, lambda: _list_own(wanted), found is not None)
    if listing is None:
        assert found is not None  # else the error was raised
        if lacking := _missing(*found):
            raise LoadFailed(_half(wanted.given, lacking), param="model")
        return _pulled(found[0], found[1].revision, list(found[1].files), wanted.gguf)
    files = needed(wanted.name, listing.files, wanted.gguf)
    listing = replace(listing, files=tuple(files))
    folder = own_store.folder_of(store, listing)
    if check:
        progress("checking what is there", None)
        known = own_store.read_manifest(folder)
        hubs.drop_broken(folder, list(known.files if known else files))
    if own_store.read_manifest(folder) is not None and not _missing(folder, listing):
        return _pulled(folder, listing.revision, files, wanted.gguf)
    counted = _begin(wanted, folder, files, store, own_store.VARIABLE, progress)
    return _pulled(own_store.bring(store, listing, counted.moved), listing.revision, files, wanted.gguf)


def _list_own(wanted: Wanted) -> Listing:
    if wanted.source == "modelscope":
        return list_modelscope(ModelScopeAccess(), wanted.name, wanted.revision)
    return list_address(wanted)


def _missing(folder: Path, listing: Listing) -> list[str]:
    return [file.path for file in listing.files if not hubs.lies_there(folder / file.path, file)]


# --------------------------------------------------------------------------------------------------------------- both


def _listed(wanted: Wanted, ask: Callable[[], Listing], known: bool) -> Listing | None:
    """Returns what the source lists; None where it cannot be asked and the model is `known` here."""
    try:
        if hubs.is_offline():
            raise ConnectionError("offline mode")
        return ask()
    except Exception as error:  # each library has its own kinds; all but an unreachable source is raised
        if not (known and is_network(error)):
            raise
        log.info("source_unreachable", model=wanted.given, error=" ".join(str(error).split())[:200])
        return None


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _begin(
    wanted: Wanted, folder: Path, files: list[SourceFile], cache: Path, variable: str, progress: LoadProgress
) -> _Count:
    """Returns the counter of a download. Raises `LoadFailed` where the disk has no room for it."""
    total = sum(file.size or 0 for file in files)
    lacking = sum(file.size or 0 for file in files if not hubs.lies_there(folder / file.path, file))
    if lacking > free(cache):
        raise LoadFailed(disk_full(cache, lacking, variable), param="model")
    return _Count(f"downloading {wanted.called} ({gib(total)})", total, progress)


def _pulled(folder: Path, revision: str, files: list[SourceFile], gguf: str | None) -> Pulled:
    return Pulled(folder, revision, tuple(files), gguf, FolderMark(folder))
