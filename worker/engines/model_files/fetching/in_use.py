"""Marks a folder of model files as used by this process, without writing anything: a shared lock on the folder itself,
which also works where it may only be read. `remove` asks for the same lock alone."""

import fcntl
import os
import weakref
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from millstream.worker.engines.base import LoadFailed

_LOCKS = Path("/proc/locks")


class FolderMark:
    """The mark of one process; it is gone with the object, or with the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        opened = os.open(folder, os.O_RDONLY)
        weakref.finalize(self, os.close, opened)
        with suppress(OSError):  # a file system without locks: then nothing is marked
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)


@contextmanager
def alone(name: str, folders: list[Path]) -> Generator[None]:
    """Holds the folders for the body, so that no worker begins to use them. Raises `LoadFailed` while one does."""
    with ExitStack() as opened:
        for folder in folders:
            handle = os.open(folder, os.O_RDONLY)
            opened.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                users = _users(os.fstat(handle))
                who = f"process {', '.join(map(str, users))}" if users else "a process of this machine"
                raise LoadFailed(
                    f"{name} is in use by {who}: stop that worker, or unload the model there, then remove it."
                ) from error
            except OSError:
                continue
        yield


def _users(file: os.stat_result) -> list[int]:
    """Returns the processes that hold a lock on the file, where the kernel tells them."""
    found: set[int] = set()
    with suppress(OSError, ValueError, IndexError):
        for line in _LOCKS.read_text().splitlines():
            words = line.split()
            number = words[5].rsplit(":", 1)[-1] if words[1] == "FLOCK" else ""
            if number == str(file.st_ino) and int(words[4]) > 0:
                found.add(int(words[4]))
    return sorted(found)
