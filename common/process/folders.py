"""The user's folders."""

import errno
import os
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from millstream.common.errors import MillstreamError

HOME = Path("~")  # found out when a folder is used: there are users without one


class Folders(BaseSettings):
    """The folders that the XDG base directory specification names."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    xdg_state_home: Path = HOME / ".local" / "state"
    xdg_cache_home: Path = HOME / ".cache"


def default_state_dir() -> Path:
    """Returns where Millstream keeps its data on this machine unless told otherwise. It begins with `~`, for
    `own_folder` to find out."""
    return Folders().xdg_state_home / "millstream"


def default_cache_dir() -> Path:
    """Returns where Millstream keeps what it can make again. It begins with `~`, as `default_state_dir`."""
    return Folders().xdg_cache_home / "millstream"


def own_folder(path: Path, *variables: str) -> Path:
    """Returns a folder that exists and can be written to, made where it is missing. Raises `FolderUnusable`, which
    names the environment `variables` that choose another one."""
    try:
        found = path.expanduser()
        found.mkdir(parents=True, exist_ok=True)
        if not os.access(found, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, RuntimeError) as error:
        why = "this user has no home folder" if isinstance(error, RuntimeError) else error.strerror
        raise FolderUnusable(
            f"Cannot write to {path}: {why}. Set {' or '.join(variables)} to another folder."
        ) from error
    return found


class FolderUnusable(MillstreamError):
    """A folder of our own that cannot be made or written to."""


def default_files_url() -> str:
    """Returns where uploaded files lie unless told otherwise."""
    return str(default_state_dir() / "files")


class Place(BaseSettings):
    """The folder where `millstream up` was told to keep its data."""

    model_config = SettingsConfigDict(env_prefix="MILLSTREAM_", frozen=True, extra="ignore", env_ignore_empty=True)

    state_dir: Path | None = None


def state_dir() -> Path | None:
    """Returns the folder of a `millstream up` with this environment; None for a user without a home."""
    try:
        return (Place().state_dir or default_state_dir()).expanduser()
    except RuntimeError:
        return None
