"""The limit on files and connections that this process has open, and a line in the log when it is reached."""

import asyncio
import errno
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

MOST_FILES = 1 << 20  # where the system names no limit
LOOK_EVERY = 1.0  # seconds; a look costs some microseconds
SAY_AGAIN = 600.0  # seconds: who is short of them for a day is told so, but not in every second of it

log = structlog.stdlib.get_logger(part="process")


def open_files_limit() -> int:
    """Returns how many files and connections this process may have open; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_open_files() -> int:
    """Lets this process open as many files and connections as the system allows it at all, and returns how many; 0
    where there is no such limit to ask for."""
    if sys.platform == "win32":
        return 0
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has another limit, below the one it tells
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return open_files_limit()


async def watch_open_files(now: Callable[[], float] = time.monotonic) -> None:
    """Says in the log when no file and no connection can be opened any more, for ever. The event loop itself closes
    connections that it has no room for, and says nothing."""
    told = -SAY_AGAIN
    while True:
        if now() - told >= SAY_AGAIN and (short := _shortage()) is not None:
            told = now()
            log.error("too_many_open_files", limit=open_files_limit(), error=short)
        await asyncio.sleep(LOOK_EVERY)


def _shortage() -> str | None:
    """Returns why not one more file can be opened, and what helps; None if one can."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno == errno.ENFILE:
            return "Too many open files on this machine: new connections are refused. Raise the sysctl fs.file-max."
        if error.errno == errno.EMFILE:
            return (
                f"Too many open files: new connections are refused. This process may have {open_files_limit()} open. "
                "Raise its limit (`ulimit -Hn`, `LimitNOFILE` in systemd, `ulimits: nofile` in Compose), or start "
                "another one."
            )
    return None
