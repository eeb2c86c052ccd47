"""A real `millstream up` as a child process, with its output read as it comes."""

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from millstream.common.process.command import own_command
from millstream.common.settings import child_environment
from tests.harness.support import wait_until


class UpProcess:
    """`up` with its lines. `families` are all processes it ever had, by the moment of asking."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, lines))
            for pipe, lines in ((process.stdout, self.out), (process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(pipe: Iterator[str], lines: list[str]) -> None:
        lines.extend(line.rstrip("\n") for line in pipe)

    def line(self, beginning: str) -> str:
        """The rest of the first line of standard output that begins so, empty if there is none yet."""
        return next(
            (line.strip().removeprefix(beginning) for line in self.out if line.strip().startswith(beginning)), ""
        )

    def queue(self) -> str:
        """Returns the URL of the process's queue as the banner tells it, with the password from the file that the
        banner names."""
        file = self.line("password ").removesuffix(", for redis-cli")
        return self.line("queue    ").replace("***", Path(file).read_text().strip())

    def family(self) -> list[psutil.Process]:
        """All its children, and theirs."""
        return psutil.Process(self.process.pid).children(recursive=True)

    async def ready(self) -> str:
        """Wait for the banner; the gateway's address."""
        await wait_until(lambda: self.line("curl ") or self.process.poll() is not None, within=60)
        assert self.process.poll() is None, "\n".join([*self.out, *self.err])
        return self.line("address").strip()

    async def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait; the exit status."""
        self.process.send_signal(number)
        await wait_until(lambda: self.process.poll() is not None, within=60)
        for reader in self._readers:
            reader.join()
        return self.process.returncode


@contextmanager
def up(state: Path, *arguments: str, **settings: str) -> Iterator[UpProcess]:
    """Start it with a simulated model on free ports; whatever is left of it at the end is killed."""
    command = own_command("up", "--port", "0", "--valkey-port", "0", "--state-dir", str(state), *arguments)
    if "--engine" not in arguments:
        command += ["--engine", "simulated", "--model", "sim"]
    process = subprocess.Popen(
        command,
        env=dict(child_environment(**settings)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    running = UpProcess(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        assert process.stderr is not None
        for reader in running._readers:
            reader.join()
        process.stdout.close()
        process.stderr.close()


def gone(process: psutil.Process) -> bool:
    """Tells whether it has ended (a zombie nobody has waited for has)."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
