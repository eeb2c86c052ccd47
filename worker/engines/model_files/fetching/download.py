"""Fetches one file to its place: goes on where an earlier try ended, and believes only a right size and checksum."""

import time
from collections.abc import Callable, Mapping
from hashlib import sha1, sha256
from pathlib import Path

import httpx
import structlog
from huggingface_hub.utils import parse_ratelimit_headers

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.model_files.fetching.listing import SourceFile

PARTIAL = ".incomplete"  # the ending that the hub's own library uses, so that its tools find what is left over
_TRIES = 5  # without a single new byte
_TIMEOUT = httpx.Timeout(30, connect=10)
_PIECE = 1 << 20
_LATER = frozenset((408, 429, 500, 502, 503, 504))
_LONGEST_WAIT = 300.0  # seconds, which is the length of the hub's own window

log = structlog.stdlib.get_logger(part="models")
Moved = Callable[[int], None]  # told how many bytes came; below zero: so many have to come again


class _AgainSoon(Exception):
    """The source answers that it cannot answer now. `wait`: the seconds after which it can, if it says so."""

    def __init__(self, message: str, response: httpx.Response, wait: float | None = None) -> None:
        super().__init__(message)
        self.response, self.wait = response, wait


def fetch(file: SourceFile, target: Path, headers: Mapping[str, str], moved: Moved) -> None:
    """Brings `file` to `target`, where nobody else writes meanwhile. Raises `LoadFailed` for content that is not what
    the source promised, httpx's errors for a source that cannot be reached or refuses, `OSError` for the disk's."""
    partial = target.with_name(target.name + PARTIAL)
    target.parent.mkdir(parents=True, exist_ok=True)
    left = _TRIES
    while True:
        before = _size(partial)
        try:
            _go_on(file, partial, headers, moved)
            break
        except (httpx.TransportError, _AgainSoon) as error:
            left = _TRIES if _size(partial) > before else left - 1
            asked = error.wait if isinstance(error, _AgainSoon) else None
            if left <= 0 or (asked or 0) > _LONGEST_WAIT:
                raise
            wait = asked if asked is not None else min(2 ** (_TRIES - left) / 4, 4)
            log.info("download_interrupted", file=file.path, there=_size(partial), error=str(error), wait=wait)
            time.sleep(wait)
    _check(file, partial)
    partial.replace(target)


def _go_on(file: SourceFile, partial: Path, headers: Mapping[str, str], moved: Moved) -> None:
    start = _size(partial)
    if file.size is not None and start > file.size:
        partial.unlink()
        start = 0
    if file.size is not None and start == file.size:
        partial.touch()  # there are empty files
        moved(start)
        return
    asked = {**headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with httpx.stream("GET", file.url, headers=asked, follow_redirects=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 416:  # it has no more than we have: shorter than it was, so from the beginning
            partial.unlink(missing_ok=True)
            raise _AgainSoon("There is no such range.", answer)
        if answer.status_code in _LATER:
            raise _AgainSoon(f"The source answered {answer.status_code}.", answer, wait_of(answer.headers))
        answer.raise_for_status()
        goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        _write(answer, partial, start if goes_on else 0, moved)


def wait_of(headers: Mapping[str, str]) -> float | None:
    """Returns after how many seconds a source that has had enough wants to be asked again; None if it tells none."""
    told = parse_ratelimit_headers(headers)
    if told is not None and told.remaining == 0:
        return float(told.reset_in_seconds)
    after = httpx.Headers(dict(headers)).get("Retry-After", "").strip()
    return float(after) if after.isdecimal() and after.isascii() else None


def _write(answer: httpx.Response, partial: Path, start: int, moved: Moved) -> None:
    came = start
    moved(start)
    try:
        with partial.open("r+b" if start else "wb") as written:
            written.seek(start)
            for piece in answer.iter_bytes():  # as they come: gathered ones would be lost when it breaks off
                written.write(piece)
                came += len(piece)
                moved(len(piece))
    except BaseException:
        moved(-came)  # the next try counts what is there
        raise


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check(file: SourceFile, partial: Path) -> None:
    """Raises `LoadFailed` for wrong content, which is thrown away, and for an end that came too early, which is kept:
    the next try goes on there."""
    size = _size(partial)
    if file.size is not None and size < file.size:
        raise LoadFailed(
            f"{file.path} ended after {size} of {file.size} bytes. What came is kept: try again, and it goes on there."
        )
    if why := difference(file, partial):
        partial.unlink()
        raise LoadFailed(
            f"{file.path} came with {why}, so it was thrown away. Try again; if it happens again, something on the way "
            "(a proxy, a mirror) changes files."
        )


def difference(file: SourceFile, path: Path) -> str | None:
    """Returns in what a file on the disk differs from what its source says; None where it is the same."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size} of {file.size} bytes"
    if file.sha256 is not None and _digest(path, "sha256") != file.sha256.lower():
        return "another SHA-256 than its source says"
    if file.sha256 is None and file.git_sha1 is not None and _digest(path, "git") != file.git_sha1.lower():
        return "another checksum than its source says"
    return None


def _digest(path: Path, kind: str) -> str:
    found = sha256() if kind == "sha256" else sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as opened:
        while piece := opened.read(_PIECE):
            found.update(piece)
    return found.hexdigest()


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    return _digest(path, "sha256")
