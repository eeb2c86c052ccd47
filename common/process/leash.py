"""Run a command that cannot outlive the process that starts it, not even one that dies of kill -9.

`argv = leashed(["program", "argument"], signal.SIGTERM)` gives the command line to start instead. On Linux the kernel
sends the signal (PR_SET_PDEATHSIG survives exec, so the process id is the command's own); elsewhere this file stays in
between, watches its parent and passes signals on. The kernel's promise is tied to the starting *thread*: start
children from a thread that lives as long as they should.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

WATCH_INTERVAL = 0.25  # seconds between two looks at the parent where the kernel does not tell


def leashed(command: Sequence[str], on_death: signal.Signals) -> list[str]:
    """Returns the command line that runs `command` and sends it `on_death` when the calling process is gone."""
    # -I -S: nothing but the standard library, so that the detour costs about 20 ms
    return [sys.executable, "-I", "-S", __file__, str(int(on_death)), str(os.getpid()), *command]


def die_with_parent(number: int) -> bool:
    """Asks the kernel to send this process the signal when its parent dies; False where it has no such call."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # here: it is half of this file's start-up time

    set_parent_death_signal = 1  # PR_SET_PDEATHSIG in linux/prctl.h
    return ctypes.CDLL(None).prctl(set_parent_death_signal, number, 0, 0, 0) == 0


def _watch(command: Sequence[str], on_death: int, parent: int) -> int:
    """Runs the command as a child until it ends; returns its exit status."""
    with subprocess.Popen(command, close_fds=False) as child:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _: child.send_signal(received))
        while child.poll() is None:
            if os.getppid() != parent:
                child.send_signal(on_death)
                return child.wait()
            time.sleep(WATCH_INTERVAL)
        return child.returncode


def main(arguments: list[str]) -> int:
    """Is the entry point: SIGNAL PARENT COMMAND..."""
    on_death, parent, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    obeyed = die_with_parent(on_death)
    if os.getppid() != parent:  # it died before the kernel was asked
        return 1
    if not obeyed:
        return _watch(command, on_death, parent)
    return os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
