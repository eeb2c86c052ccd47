# fsspec publishes no types; what comes from it is annotated where it enters.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
"""The storage of files' bytes: a folder, or whatever fsspec speaks to. Names are `<folder>/<name>`.

fsspec blocks, so everything runs in threads; only blocks of a file are ever in memory.
"""

import asyncio
import contextlib
import errno
import os
import posixpath
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from millstream.common.errors import NotFound
from millstream.common.process.cancellation import cancellation_wins
from millstream.gateway.errors.table import StorageFailed

BLOCK = 1 << 18  # bytes read or written at once
T = TypeVar("T")


def _with_home(url: str) -> str:
    """Raises `ValueError` where `~` is nobody's home: it would become a folder of this name."""
    if not url.startswith("~"):
        return url
    try:
        return str(Path(url).expanduser())
    except RuntimeError:
        raise ValueError("this user has no home folder") from None


class Draft:
    """A file being written. It appears under its name only when it is complete."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0  # bytes

    async def write(self, data: bytes) -> None:
        """Raises `StorageFailed`, for instance when the disk is full."""
        await blocking(lambda: self._file.write(data))
        self.size += len(data)

    async def copy(self, source: IO[bytes]) -> None:
        """Copies all of an open file, from where it stands."""
        before = await blocking(source.tell)
        await blocking(lambda: shutil.copyfileobj(source, self._file, BLOCK))
        self.size += await blocking(source.tell) - before


class Storage:
    """`url` is a folder or an fsspec URL. Raises `ValueError` for a URL whose library is not installed."""

    def __init__(self, url: str) -> None:
        try:
            # What other processes have written since the last listing must be seen.
            fs, root = fsspec.core.url_to_fs(_with_home(url), use_listings_cache=False)
        except (ImportError, ValueError) as error:
            hint = "For s3:// install millstream[s3]." if url.startswith("s3:") else "Name another folder."
            raise ValueError(f"files_url (MILLSTREAM_FILES_URL) `{url}` cannot be used: {error}. {hint}") from error
        self._fs: Any = fs
        self._root: str = root
        self._local = isinstance(fs, LocalFileSystem)

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)

    @asynccontextmanager
    async def writing(self, name: str) -> AsyncGenerator[Draft]:
        """Writes a new file, or an old one anew. Nothing is left of it if the block raises. Raises `StorageFailed`."""
        path = self._path(name)
        part = f"{path}.part" if self._local else path  # an object store shows a file only when it is closed
        file: Any = await blocking(lambda: self._create(part))
        try:
            yield Draft(file)
            await blocking(file.close)
            if self._local:
                await blocking(lambda: self._fs.mv(part, path))
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._discard, file, part))
            raise

    def _create(self, path: str) -> Any:
        if self._local:
            return _create_private(Path(path))
        self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
        return self._fs.open(path, "wb")

    def _discard(self, file: Any, path: str) -> None:
        with contextlib.suppress(Exception):  # the error that led here is the one to tell
            if not self._local and hasattr(file, "discard"):
                file.discard()
                file.closed = True
                return
            file.close()
        with contextlib.suppress(OSError):
            self._fs.rm_file(path)

    async def read(self, name: str, start: int = 0) -> AsyncIterator[bytes]:
        """Yields the file's bytes from `start` on, in blocks. Raises `NotFound`, `StorageFailed`."""
        file: Any = await blocking(lambda: self._fs.open(self._path(name), "rb"))
        with cancellation_wins():
            try:
                if start:
                    await blocking(lambda: file.seek(start))
                while block := await blocking(lambda: file.read(BLOCK)):
                    yield block
            finally:
                await asyncio.shield(asyncio.to_thread(file.close))

    async def delete(self, name: str) -> None:
        """Deletes a file; one that is not there is fine. Raises `StorageFailed`."""
        with contextlib.suppress(NotFound):
            await blocking(lambda: self._fs.rm_file(self._path(name)))

    async def clear(self, folder: str) -> None:
        """Deletes a folder with all that is in it."""
        with contextlib.suppress(NotFound):
            await blocking(lambda: self._fs.rm(self._path(folder), recursive=True))

    async def names(self) -> list[tuple[str, float]]:
        """Returns every file's name and how many seconds ago it was last written (0 where the store does not tell)."""
        found: dict[str, dict[str, Any]] = await blocking(self._find)
        now = time.time()
        strip = len(self._root.rstrip("/")) + 1
        return [(path[strip:], max(0.0, now - _written(info, now))) for path, info in found.items()]

    def _find(self) -> dict[str, dict[str, Any]]:
        return self._fs.find(self._root, detail=True) if self._fs.exists(self._root) else {}


def _create_private(path: Path) -> IO[bytes]:
    """A new file that nobody else on the machine can read: prompts and answers lie in it. A folder that is there keeps
    its mode, which may be the operator's choice."""
    for folder in (*reversed(path.parent.parents), path.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _written(info: dict[str, Any], now: float) -> float:
    """Returns when a file was written, in seconds since the epoch; each kind of store calls it otherwise."""
    when = next((info[name] for name in ("mtime", "LastModified", "last_modified") if info.get(name)), now)
    return when.timestamp() if isinstance(when, datetime) else float(when)


async def blocking(work: Callable[[], T]) -> T:
    """Returns the work's result, made in a thread. Raises `NotFound` for a missing file, `StorageFailed` for other
    faults."""
    try:
        return await asyncio.to_thread(work)
    except FileNotFoundError as error:
        raise NotFound("The file's content is not there any more.") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "there is no space left" if full else str(error.strerror or error)
        raise StorageFailed(f"The file storage cannot do this: {why}.", retry_after=60) from error
    except Exception as error:  # stores that are away say so with errors of their own, no OSErrors
        raise StorageFailed(f"The file storage cannot do this: {error}.", retry_after=60) from error
