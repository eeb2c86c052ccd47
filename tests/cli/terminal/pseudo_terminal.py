"""A command in a real pseudo terminal: what is on it, and Ctrl+C as the keyboard sends it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Generator
from contextlib import contextmanager

from millstream.common.process.command import own_command
from millstream.common.settings import child_environment
from tests.harness.support import wait_until

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class PseudoTerminal:
    """A terminal with a command in it, and all that the command has written."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._raw = bytearray()

    @property
    def raw(self) -> str:
        """All of it, with control sequences."""
        try:
            while data := os.read(self._master, 1 << 16):
                self._raw.extend(data)
        except OSError:
            pass  # nothing there now, or the other side is closed
        return self._raw.decode(errors="replace")

    @property
    def text(self) -> str:
        """All of it, without control sequences."""
        return CONTROL.sub("", self.raw).replace("\r", "\n")

    @property
    def lines(self) -> list[str]:
        """The whole lines it stands at, without those of the progress display."""
        return [line for line in self.text.split("\n") if line.strip() and "━" not in line]

    async def shows(self, words: str, within: float = 60) -> str:
        """Waits until a pattern is found in what was written; returns its first group, or all of it."""

        def found() -> re.Match[str] | None:
            return re.search(words, self.text)

        await wait_until(lambda: found() or self.process.poll() is not None, within=within)
        match = found()
        assert match is not None, f"{words!r} never came: {self.text}"
        return match.group(1) if match.groups() else match.group(0)

    def ctrl_c(self) -> None:
        """Types it: the terminal sends the signal."""
        os.write(self._master, b"\x03")

    async def ended(self, within: float = 60) -> int:
        """Waits for its end; the exit status."""
        await wait_until(lambda: [self.raw] and self.process.poll() is not None, within=within)
        return self.process.wait()


@contextmanager
def in_terminal(*arguments: str, columns: int = 80, **settings: str) -> Generator[PseudoTerminal]:
    """`millstream ARGUMENTS` with a pseudo terminal as its input and output; killed at the end, if it still runs."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.set_blocking(master, False)
    process = subprocess.Popen(
        own_command(*arguments),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=dict(child_environment(**settings)),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
    )
    os.close(slave)
    try:
        yield PseudoTerminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)
