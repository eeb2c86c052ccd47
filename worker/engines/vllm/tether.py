"""The processes of vLLM, tied to this one: none outlives it, and what they print is read here.

vLLM computes in processes that it starts itself. It spawns each with its configuration pickled, and the pickled
`Tether` inside does its work there while it is unpickled: that is as early as anything can run in such a process.
"""

import os
import signal
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from threading import Thread
from typing import Any

from millstream.common.process.leash import die_with_parent
from millstream.worker.engines.base import LoadProgress
from millstream.worker.engines.vllm.process_log import ProcessLog

_READ = 1 << 16  # bytes


class Tether:
    """Belongs into the configuration of a vLLM (`additional_config`), as long as its processes are being started. They
    must be started by a thread that lives as long as they should."""

    def __init__(self, progress: LoadProgress) -> None:
        self._owner = os.getpid()
        self._reader, self._writer = Pipe(duplex=False)
        self.log = ProcessLog(progress)
        self._reading = Thread(target=self._read, name="vllm-output", daemon=True)
        self._reading.start()

    def started(self) -> None:
        """Lets go of the end that the processes write to. Called when all of them run, or none will."""
        self._writer.close()

    def told_all(self) -> None:
        """Waits a moment until what dead processes printed has been read."""
        self._reading.join(timeout=1)

    def _read(self) -> None:
        rest = b""
        with suppress(OSError):
            while data := os.read(self._reader.fileno(), _READ):
                *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
                for line in lines:
                    self.log.add(line.decode(errors="replace"))
        self._reader.close()

    def compute_hash(self) -> str:
        """Says to vLLM that what is compiled does not depend on this."""
        return ""

    def __deepcopy__(self, _: object) -> "Tether":
        return self

    def __reduce__(self) -> tuple[object, ...]:
        if get_spawning_popen() is None:
            return Tied, ()  # pickled for something else
        return _tie, (self._owner, DupFd(self._writer.fileno()))


class Tied:
    """A tether in a process that hangs on it; the processes which that one starts hang on it in turn."""

    def compute_hash(self) -> str:
        """Says to vLLM that what is compiled does not depend on this."""
        return ""

    def __reduce__(self) -> tuple[object, ...]:
        return (Tied, ()) if get_spawning_popen() is None else (_hang_on, (os.getpid(),))


def _hang_on(owner: int) -> Tied:
    """Runs in a process that has just begun."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() != owner:  # it died before the kernel was asked
        os._exit(1)
    return Tied()


def _tie(owner: int, writer: Any) -> Tied:
    """Runs in the first process. Ctrl-C in a terminal is for the worker, which drains."""
    tied = _hang_on(owner)
    os.setpgid(0, 0)
    handle = writer.detach()
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)
    return tied
