"""The file of the log of all parts, while the terminal shows only what matters: bounded, and its owner's alone."""

import fcntl
import io
import os
from collections.abc import Callable
from pathlib import Path

from millstream.common.errors import MillstreamError
from millstream.common.process.folders import own_folder

NAME = "up.log"
MOST_BYTES = 20 << 20  # of one file; the one before it is kept beside it, so twice this on the disk
MOST_AT_ONCE = 9  # files of clusters that share a state folder, each on a queue of its own


class LogUnusable(MillstreamError):
    """No file can take the log; the message says why and what to choose instead."""


class LogFile:
    """Takes whole lines. `failed` is called once when it cannot be written any more: the cluster goes on."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        self.failed: Callable[[str], None] = _ignore
        self._most_bytes = most_bytes
        self._file = _open(path)
        self._written = True

    def write(self, text: str, /) -> int:
        try:
            if self._file.tell() > self._most_bytes:
                self._turn()
            self._file.write(text)
            self._file.flush()
        except (OSError, ValueError) as error:
            self._tell(getattr(error, "strerror", None) or str(error))
        else:
            self._written = True
        return len(text)

    def flush(self) -> None:
        """Does nothing: each write is flushed."""

    def close(self) -> None:
        try:
            self._file.close()
        except OSError:
            pass  # what is left in its buffer finds no room

    def isatty(self) -> bool:
        return False

    def _turn(self) -> None:
        """Begins a new file; the old one replaces the one before it."""
        self._file.close()
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        self._file = _open(self.path)

    def _tell(self, why: str) -> None:
        if self._written:
            self._written = False
            self.failed(f"The log cannot be written to {self.path}: {why}.")


def open_log(state_dir: Path, named: Path | None) -> LogFile:
    """Returns the file that was `named`, else one of our own that no other cluster writes to. Raises
    `MillstreamError`."""
    folder = own_folder((named or state_dir / "log" / NAME).parent, "--log-file", "MILLSTREAM_STATE_DIR")
    if named is not None:
        return _opened(folder / named.name)
    for number in range(1, MOST_AT_ONCE + 1):
        try:
            return _opened(folder / (NAME if number == 1 else f"up-{number}.log"))
        except LogTaken:
            continue
    raise LogUnusable(f"All {MOST_AT_ONCE} log files in {folder} are in use: choose one with --log-file.")


class LogTaken(LogUnusable):
    """Another `up` writes to this file."""


def _opened(path: Path) -> LogFile:
    try:
        return LogFile(path)
    except BlockingIOError as error:
        raise LogTaken(f"Another `millstream up` writes its log to {path}: choose another --log-file.") from error
    except OSError as error:
        raise LogUnusable(
            f"The log cannot be written to {path}: {error.strerror}. Choose another --log-file."
        ) from error


def _open(path: Path) -> io.TextIOWrapper:
    """Opens it at its end and holds it alone, where the file system knows locks. Raises `OSError`."""
    file = open(path, "a", encoding="utf-8", errors="backslashreplace", opener=_private)  # noqa: SIM115 (held while we run)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    except OSError:
        pass  # no locks here: two clusters may then write to one file, whole lines each
    return file


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _ignore(told: str) -> None:
    pass
