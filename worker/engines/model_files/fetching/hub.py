"""Models of the Hugging Face hub, in its own library's cache: whatever else uses that cache finds them there."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (huggingface_hub and tqdm publish partly unknown types)

import glob
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, tqdm

from millstream.worker.engines.model_files.fetching.download import Moved, difference, fetch
from millstream.worker.engines.model_files.fetching.listing import Listing, SourceFile

VARIABLE = "HF_HUB_CACHE"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AT_ONCE = 4  # files that are fetched at the same time


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub's address, and the folder of the cache."""

    endpoint: str
    cache: Path

    def folder(self, name: str) -> Path:
        """Returns the cache's folder of a model."""
        return self.cache / repo_folder_name(repo_id=name, repo_type="model")

    def snapshot(self, name: str, commit: str) -> Path:
        """Returns the folder with one revision's files."""
        return self.folder(name) / "snapshots" / commit


def the_hub() -> Hub:
    """Returns the hub as the environment says (HF_ENDPOINT, HF_HUB_CACHE, HF_HOME)."""
    return Hub(constants.ENDPOINT, Path(constants.HF_HUB_CACHE))


def is_offline() -> bool:
    """Tells whether the hub must not be asked (HF_HUB_OFFLINE)."""
    return constants.HF_HUB_OFFLINE


def list_hub(hub: Hub, name: str, revision: str | None) -> Listing:
    """Returns what the hub lists. Raises its library's errors."""
    api = HfApi(endpoint=hub.endpoint)
    commit = revision if revision and _COMMIT.fullmatch(revision) else None
    commit = commit or str(api.model_info(name, revision=revision).sha)
    tree = api.list_repo_tree(name, recursive=True, revision=commit)
    files = tuple(_described(hub, name, commit, entry) for entry in tree if isinstance(entry, RepoFile))
    return Listing("hub", name, commit, files, build_hf_headers())


def _described(hub: Hub, name: str, commit: str, entry: RepoFile) -> SourceFile:
    url = hf_hub_url(name, entry.path, revision=commit, endpoint=hub.endpoint)
    if entry.lfs is not None:
        return SourceFile(entry.path, entry.lfs.size, sha256=entry.lfs.sha256, url=url)
    return SourceFile(entry.path, entry.size, git_sha1=entry.blob_id, url=url)


def cached_commit(hub: Hub, name: str, revision: str | None) -> str | None:
    """Returns the commit that a revision had when it was last fetched; None if it never was."""
    if revision and _COMMIT.fullmatch(revision):
        return revision if hub.snapshot(name, revision).is_dir() else None
    ref = hub.folder(name) / "refs" / (revision or constants.DEFAULT_REVISION)
    try:
        return ref.read_text().strip() or None
    except OSError:
        return None


def remembered(hub: Hub, name: str, commit: str) -> list[SourceFile]:
    """Returns what the hub listed when the revision was fetched. Where the library did not keep that, the files that
    are there: the cache calls each by its checksum."""
    try:
        told: dict[str, dict[str, Any]] = json.loads(
            (hub.folder(name) / "trees" / f"{commit}.json").read_text(encoding="utf-8")
        )["files"]
        return [
            SourceFile(path, each["size"], each.get("lfs_sha256"), None if "lfs_sha256" in each else each["blob_id"])
            for path, each in told.items()
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return list(_by_checksum(hub.snapshot(name, commit)))


def _by_checksum(folder: Path) -> Iterable[SourceFile]:
    for link in sorted(folder.rglob("*")):
        if link.is_dir():
            continue
        path, blob = link.relative_to(folder).as_posix(), link.readlink().name if link.is_symlink() else ""
        sha256 = blob if _SHA256.fullmatch(blob) else None
        yield SourceFile(path, None, sha256, blob if _COMMIT.fullmatch(blob) else None)


def bring(hub: Hub, listing: Listing, wanted: list[SourceFile], revision: str | None, moved: Moved) -> Path:
    """Fetches what is missing of the wanted files and returns their folder. Several processes may do so at once."""
    folder = hub.folder(listing.name)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(partial(_blob, hub, folder, listing, moved), wanted))
    # Links, names of revisions and the list of files are the library's own business.
    return Path(
        snapshot_download(
            listing.name,
            revision=revision or constants.DEFAULT_REVISION,
            endpoint=hub.endpoint,
            cache_dir=hub.cache,
            allow_patterns=[glob.escape(file.path) for file in wanted],
            tqdm_class=_Silent,
        )
    )


def _blob(hub: Hub, folder: Path, listing: Listing, moved: Moved, file: SourceFile) -> None:
    name = file.sha256 or file.git_sha1 or ""
    blob = folder / "blobs" / name
    if lies_there(blob, file):
        return moved(blob.stat().st_size)
    lock = hub.cache / ".locks" / folder.name / f"{name}.lock"  # the one that the library takes
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        if lies_there(blob, file):
            return moved(blob.stat().st_size)
        blob.unlink(missing_ok=True)
        return fetch(file, blob, listing.headers, moved)


def lies_there(place: Path, file: SourceFile) -> bool:
    """Tells whether a file is there in its right size."""
    return place.is_file() and file.size in (None, place.stat().st_size)


def drop_broken(folder: Path, files: list[SourceFile]) -> None:
    """Removes those of the files whose content is not what the source says, so that they are fetched again."""
    for file in files:
        place = folder / file.path
        if place.is_file() and difference(file, place):
            place.resolve().unlink()
            place.unlink(missing_ok=True)


class _Silent(tqdm):  # pyright: ignore[reportUntypedBaseClass]
    """The library's progress bar, unseen: progress is told elsewhere."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "disable": True})
