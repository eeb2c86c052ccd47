"""Millstream's own processes, started as a user would, to be killed and started again."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-c", "from millstream.cli.main import main; main()"]


@dataclass
class BackgroundProcesses:
    """The parts of one cluster, by name. Their output goes to files."""

    redis_url: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict[str, str])
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])
    arguments: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def start(self, name: str, *arguments: str) -> None:
        """A process, or the one of that name again with the arguments it had."""
        self.arguments[name] = list(arguments) or self.arguments[name]
        environment = {
            **os.environ,
            "MILLSTREAM_REDIS_URL": self.redis_url,
            "MILLSTREAM_FILES_URL": str(self.folder / "files"),
            "MILLSTREAM_LOG_FORMAT": "json",
            "MILLSTREAM_LEASE": "1.5",
            **self.settings,
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*COMMAND, *self.arguments[name]], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        """Kills it with SIGKILL."""
        self.running[name].send_signal(signal.SIGKILL)
        self.running[name].wait()

    def stop(self, name: str, patience: float = 30) -> int:
        """SIGTERM, and its exit status."""
        self.running[name].terminate()
        return self.running[name].wait(patience)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


@contextmanager
def processes(redis_url: str, folder: Path, **settings: str) -> Iterator[BackgroundProcesses]:
    """None of them outlives the block. Settings are given as `max_jobs="4"`."""
    variables = {f"MILLSTREAM_{name.upper()}": value for name, value in settings.items()}
    made = BackgroundProcesses(redis_url, folder, variables)
    try:
        yield made
    finally:
        for process in made.running.values():
            process.kill()
        for process in made.running.values():
            process.wait()
