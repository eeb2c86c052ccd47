"""`millstream up` in a terminal, as a user types it."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from millstream.common.broker.embedded import free_port

PATIENCE = 120.0  # seconds; only a safety net


@dataclass
class Terminal:
    """A terminal in which somebody typed `millstream up`."""

    process: subprocess.Popen[str]
    screen: Path
    environment: dict[str, str]

    @property
    def text(self) -> str:
        return self.screen.read_text()

    def find(self, pattern: str) -> str:
        """The first group of `pattern`, once it is on the screen."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.text)):
            assert self.process.poll() is None, f"it ended: {self.text}"
            assert time.monotonic() < deadline, f"{pattern!r} never came: {self.text}"
            time.sleep(0.05)
        return found.group(1)


@contextmanager
def up(home: Path, *flags: str, **variables: str) -> Iterator[Terminal]:
    """`millstream up` with these flags, on free ports, in an environment that has nothing else but these variables.
    It is killed at the end, if nobody has stopped it before."""
    screen = home / "screen.txt"
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    environment |= {"HOME": str(Path.home()), "XDG_STATE_HOME": str(home), **variables}
    command = [
        sys.executable,
        "-m",
        "millstream.cli.main",
        "up",
        "--port",
        str(free_port()),
        "--valkey-port",
        "0",
        *flags,
    ]
    with screen.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, text=True)
        try:
            yield Terminal(process, screen, environment)
        finally:
            process.kill()
            process.wait()
