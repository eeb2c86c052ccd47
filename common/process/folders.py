"""The user's folders."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Folders(BaseSettings):
    """The folders that the XDG base directory specification names."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    xdg_state_home: Path = Field(default_factory=lambda: Path.home() / ".local" / "state")


def default_state_dir() -> Path:
    """Returns where Millstream keeps its data on this machine unless told otherwise."""
    return Folders().xdg_state_home / "millstream"


def default_files_url() -> str:
    """Returns where uploaded files lie unless told otherwise."""
    return str(default_state_dir() / "files")


class Place(BaseSettings):
    """The folder where `millstream up` was told to keep its data."""

    model_config = SettingsConfigDict(env_prefix="MILLSTREAM_", frozen=True, extra="ignore", env_ignore_empty=True)

    state_dir: Path | None = None


def state_dir() -> Path | None:
    """The folder of a `millstream up` with this environment; None for a user without a home."""
    try:
        return Place().state_dir or default_state_dir()
    except RuntimeError:
        return None
