"""`millstream models pull`, `list`, `verify` and `remove`: a model's files on this machine. No Redis is needed."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from millstream.cli.inspect.tables import print_table
from millstream.cli.settings import ModelFilesSettings
from millstream.cli.up.screen import Screen, TerminalScreen
from millstream.common.errors import BadRequest
from millstream.common.process.folders import default_cache_dir
from millstream.worker.engines.model_files.fetching.hub import the_hub
from millstream.worker.engines.model_files.fetching.own_store import store_of
from millstream.worker.engines.model_files.fetching.pull import pull
from millstream.worker.engines.model_files.fetching.reasons import gib, sourced
from millstream.worker.engines.model_files.fetching.shelf import StoredModel, everything, of_name, remove
from millstream.worker.engines.model_files.fetching.verify import FileCheck, verify, verify_folder
from millstream.worker.engines.model_files.fetching.wanted import Wanted, read_name
from millstream.worker.engines.model_files.sample_models import SAMPLE_CHAT, SAMPLE_CHAT_NAME

BROKEN = 1  # exit status


def fetch(settings: ModelFilesSettings) -> None:
    """Fetches a model, or what is missing of it, and says where it lies. Raises `LoadFailed`."""
    if _local(settings.model) is not None:
        raise BadRequest(
            f"{settings.model!r} is on this machine already: give it to --model as it is, and check it with "
            f"`millstream models verify {settings.model}`.",
            param="model",
        )
    wanted = _wanted(settings)
    with _screen() as screen:
        pulled = pull(
            wanted, default_cache_dir(), lambda stage, part: screen.loading("models", stage, part), check=True
        )
    place = pulled.folder / pulled.gguf if pulled.gguf else pulled.folder
    files = "1 file" if len(pulled.files) == 1 else f"{len(pulled.files)} files"
    sys.stdout.write(f"{wanted.given} is whole: {files}, {gib(pulled.size)}, revision {pulled.revision}\n{place}\n")


def show_kept() -> None:
    """Prints every model on this machine's disk."""
    rows = [
        (
            kept.name,
            kept.source,
            gib(kept.size),
            kept.revision[:12],
            "whole" if not kept.lacking else f"{len(kept.lacking)} of {len(kept.files)} files missing",
            datetime.fromtimestamp(kept.used, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        for kept in everything(default_cache_dir())
    ]
    header = ("model", "source", "size", "revision", "state", "last used")
    none = f"No model was fetched yet: neither in {the_hub().cache} nor in {store_of(default_cache_dir())}."
    print_table(header, rows, none)


def check(settings: ModelFilesSettings) -> int:
    """Compares a model's files with what is known of them; names what is wrong. Returns the exit status."""
    if (place := _local(settings.model)) is not None:
        folder = place if place.is_dir() else place.parent
        return _tell([(settings.model, verify_folder(folder))], "fetch what is wrong again from where it came")
    wanted = _wanted(settings)
    there = of_name(wanted, default_cache_dir())
    with sourced(wanted.given, "HF_HUB_CACHE", there[0].folder), _screen() as screen:
        found = [
            (_titled(kept), verify(kept, lambda stage, part: screen.loading("models", stage, part))) for kept in there
        ]
    return _tell(found, f"run `millstream models pull {settings.model}`, which fetches what is wrong again")


def _titled(kept: StoredModel) -> str:
    return f"{kept.name} ({kept.source}, {kept.revision[:12]})"


def _tell(found: Iterable[tuple[str, FileCheck]], remedy: str) -> int:
    status = 0
    for title, verdict in found:
        state = "whole" if not verdict.wrong else f"{len(verdict.wrong)} wrong: {remedy}"
        sys.stdout.write(f"{title}: {verdict.files} files, compared with {verdict.against}: {state}.\n")
        sys.stdout.writelines(f"  {line}\n" for line in verdict.wrong)
        status = BROKEN if verdict.wrong else status
    return status


def discard(settings: ModelFilesSettings) -> None:
    """Removes all revisions of a model, and says what is free now. Raises `LoadFailed` while a worker uses it."""
    if _local(settings.model) is not None:
        raise BadRequest(
            f"{settings.model!r} is a folder or file of your own, which was not fetched: remove it yourself.",
            param="model",
        )
    wanted = _wanted(settings)
    if settings.revision:
        raise BadRequest("All revisions of a model are removed together: leave --revision out.", param="revision")
    there = of_name(wanted, default_cache_dir())
    freed = remove(there)
    sys.stdout.write(f"{wanted.name} is removed: {gib(freed)} are free again.\n")


def _screen() -> Screen:
    return TerminalScreen() if sys.stdout.isatty() else Screen()


def _local(name: str) -> Path | None:
    """Returns the folder or file of that name, if there is one. Raises `BadRequest` for a path without anything."""
    if not name:
        raise BadRequest("Name a model.", param="model")
    place = Path(name).expanduser()
    if place.exists():
        return place
    if name.startswith((".", "/", "~")):
        raise BadRequest(f"There is nothing at {name!r}.", param="model")
    return None


def _wanted(settings: ModelFilesSettings) -> Wanted:
    if settings.model in (SAMPLE_CHAT, SAMPLE_CHAT_NAME):
        raise BadRequest(f"{settings.model} is the sample in a package: it needs no fetching.", param="model")
    return read_name(settings.model, settings.revision, settings.source)
