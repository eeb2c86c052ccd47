"""A cluster of real processes on this machine, to be killed, frozen and restarted. Nothing of it outlives its owner.

async with Fleet(directory, redis_url, lease="1.0") as fleet:
    gateway = await fleet.gateway()
    worker = await fleet.worker(simulated_rate="100")
    await worker.kill()
"""

import asyncio
import json
import signal
from asyncio.subprocess import DEVNULL, STDOUT, Process
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from millstream.common.process.command import own_command
from millstream.common.process.leash import leashed
from millstream.common.settings import child_environment

START_PATIENCE = 60.0  # seconds a process may take to start on a busy machine
LOOK_EVERY = 0.02  # seconds


class FleetError(Exception):
    """A process did not start; the message ends with its last words."""


class FleetPart:
    """One process of a fleet. Its log, a JSON object a line, is in the file `log`."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self.log = log
        self.url = ""  # where it listens, if it is a gateway
        self._process = process
        self.frozen = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            self._process.send_signal(number)

    async def wait(self) -> int:
        """Waits for its end and returns its exit status, or minus the signal that killed it."""
        return await self._process.wait()

    async def kill(self) -> None:
        """Kills it with SIGKILL, and waits until it is gone."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def stop(self) -> int:
        """Sends SIGTERM, waits until it has left by itself, and returns its exit status."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    def freeze(self) -> None:
        """Stops it in mid-sentence; `thaw` lets it go on without knowing."""
        self.frozen = True
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.frozen = False
        self.signal(signal.SIGCONT)

    def told(self, event: str) -> list[dict[str, Any]]:
        """Returns all log entries of that event, so far."""
        wanted = f'"{event}"'
        lines = self.log.read_text(errors="replace").splitlines()
        entries = [json.loads(line) for line in lines if wanted in line and line.startswith("{")]
        return [entry for entry in entries if entry.get("event") == event]

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


class Fleet:
    """Starts processes with `common` settings (names and values of `MILLSTREAM_` variables); ends all it started."""

    def __init__(self, directory: Path, redis_url: str, **common: str) -> None:
        self._directory = directory
        self._common = {"redis_url": redis_url, "log_format": "json", **common}
        self.parts: list[FleetPart] = []
        self.checkout: Path | None = (
            None  # whose sources the parts started from now on run; None: those of this process
        )

    async def __aenter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in self.parts:
            part.signal(signal.SIGKILL)
        await asyncio.gather(*(part.wait() for part in self.parts))

    async def gateway(self, **settings: str) -> FleetPart:
        """Starts a gateway that listens; any port unless `port` says which."""
        files = str(self._directory / "files")
        part = await self._start("gateway", {"port": "0", "files_url": files, **settings})
        listening = (await self._until_it_tells(part, "listening"))[0]
        part.url = f"http://{listening['host']}:{listening['port']}"
        return part

    async def worker(self, *, supervised: bool = False, **settings: str) -> FleetPart:
        """Starts a worker of the simulated engine unless `engine` says which; returns before it has announced
        itself."""
        extra = {"supervise": "true"} if supervised else {}
        return await self._start("worker", {"engine": "simulated", **extra, **settings})

    async def background(self, **settings: str) -> FleetPart:
        """A background process, at work on batches and background responses; all share one folder of files."""
        part = await self._start("background", {"files_url": str(self._directory / "files"), **settings})
        await self._until_it_tells(part, "background_started")
        return part

    async def _start(self, command: str, settings: dict[str, str]) -> FleetPart:
        name = f"{command}-{len(self.parts) + 1}"
        log = self._directory / f"{name}.log"
        own = {} if self.checkout is None else {"PYTHONPATH": str(self.checkout)}
        environment = {**child_environment(**{**self._common, **settings}), **own}
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *leashed(own_command(command), signal.SIGTERM if "supervise" in settings else signal.SIGKILL),
                env=environment,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
            )
        part = FleetPart(name, process, log)
        self.parts.append(part)
        return part

    async def _until_it_tells(self, part: FleetPart, event: str) -> list[dict[str, Any]]:
        async with asyncio.timeout(START_PATIENCE):
            while not (entries := part.told(event)):
                if not part.alive:
                    raise FleetError(f"{part.name} ended at its start:\n{part.last_words()}")
                await asyncio.sleep(LOOK_EVERY)
        return entries
