"""Keep child processes running: start, listen to them, restart with a growing pause, stop in time.

A `Child` is one program kept alive. Its `run` is a task of its owner's; it ends after `stop`, or with `GaveUp` when a
restart cannot help. A child dies with its owner, however the owner ends.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from millstream.common.process.backoff import Backoff
from millstream.common.process.leash import leashed

WRONG_USAGE = 2  # exit status of a command that was given wrong settings: the same settings will not do better
LONGEST_PAUSE = 10.0  # seconds between two starts of a child that keeps ending
HEALTHY_AFTER = 30.0  # seconds a child has run when its next exit counts as the first again
EARLY_EXITS = 5  # so many exits in a row, none healthy, and it is given up if it never became ready
LAST_LINES = 20  # lines of output kept to tell why a child ended
LONGEST_LINE = 1 << 20  # bytes: longer lines are cut, so that a child cannot fill our memory
DRAIN_PIPE = 1.0  # seconds to read what an ended child left in its pipe; a grandchild may hold it open

_log = structlog.stdlib.get_logger(part="supervisor")


@dataclass(frozen=True, slots=True)
class Program:
    """The command of a child. `environment` replaces the inherited one; `on_death` is the signal it gets when its owner
    is gone."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None
    on_death: signal.Signals = signal.SIGKILL


@dataclass(frozen=True, slots=True)
class ChildExit:
    """One end of a child: `status` is its exit status, or minus the signal that killed it."""

    name: str
    pid: int
    status: int
    lasted: float  # seconds
    expected: bool  # we had told it to stop
    last_lines: tuple[str, ...]


class GaveUp(Exception):
    """A child that restarting does not help. `exit` is its last one."""

    def __init__(self, exit: ChildExit) -> None:
        super().__init__(f"{exit.name} ended with status {exit.status} and is not started again.")
        self.exit = exit


OnLine = Callable[[str], None]
OnExit = Callable[[ChildExit], Awaitable[None]]


async def ignore_exit(exit: ChildExit) -> None:
    """Does nothing: an `OnExit` for those who need none."""


class Child:
    """One program, kept running. `on_line` gets each line of its output, `on_exit` is awaited after each end."""

    def __init__(self, program: Program, on_line: OnLine, on_exit: OnExit = ignore_exit) -> None:
        self.program = program
        self._on_line = on_line
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._ready = False
        self._early = 0
        self._last: list[str] = []

    @property
    def pid(self) -> int | None:
        """Returns the id of the running process, None between two of them."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def ready(self) -> None:
        """Notes that it has been of use: from now on it is restarted as often as it takes."""
        self._ready = True

    async def run(self) -> None:
        """Starts and restarts it until `stop`. Raises `GaveUp`."""
        self._ended.clear()
        try:
            await self._keep_running(Backoff(first=0.1, most=LONGEST_PAUSE))
        finally:
            self._ended.set()

    async def _keep_running(self, backoff: Backoff) -> None:
        while not self._stopping.is_set():
            exit = await self._run_once()
            await self._on_exit(exit)
            if exit.expected:
                return
            if self._hopeless(exit):
                raise GaveUp(exit)
            if exit.lasted > HEALTHY_AFTER:
                backoff.reset()
            pause = backoff.take()
            _log.warning("child_ended", child=exit.name, status=exit.status, restart_in=round(pause, 2))
            await self._pause(pause)

    async def stop(self, patience: float) -> None:
        """Asks it to end (SIGTERM), kills it after `patience` seconds; returns when it is gone."""
        self._stopping.set()
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience):
                await self._ended.wait()
        except TimeoutError:
            _log.warning("child_killed", child=self.program.name, waited=patience)
            self.signal(signal.SIGKILL)
            await self._ended.wait()

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal, if it runs."""
        if self._process is not None and self._process.returncode is None:
            try:
                self._process.send_signal(number)
            except ProcessLookupError:
                pass  # it went by itself just now

    def _hopeless(self, exit: ChildExit) -> bool:
        self._early = 0 if exit.lasted > HEALTHY_AFTER else self._early + 1
        return not self._ready and (exit.status == WRONG_USAGE or self._early >= EARLY_EXITS)

    async def _run_once(self) -> ChildExit:
        started = asyncio.get_running_loop().time()
        self._last.clear()
        process = self._process = await asyncio.create_subprocess_exec(
            *leashed(self.program.command, self.program.on_death),
            env=self.program.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C on the terminal is the owner's to handle, in its order
        )
        if self._stopping.is_set():  # while it was being started
            process.terminate()
        assert process.stdout is not None
        reader = asyncio.create_task(self._listen(process.stdout))
        try:
            status = await process.wait()
            await asyncio.wait((reader,), timeout=DRAIN_PIPE)
        finally:
            reader.cancel()
            if process.returncode is None:  # our own task was cancelled: nobody else would end it
                process.kill()
                await process.wait()
        lasted = asyncio.get_running_loop().time() - started
        expected = self._stopping.is_set()
        return ChildExit(self.program.name, process.pid, status, lasted, expected, tuple(self._last))

    async def _listen(self, pipe: asyncio.StreamReader) -> None:
        rest = b""
        while data := await pipe.read(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._hear(line)
            rest = rest[:LONGEST_LINE]
        if rest:
            self._hear(rest)

    def _hear(self, raw: bytes) -> None:
        line = raw.decode(errors="replace").rstrip()
        self._last = [*self._last[-LAST_LINES + 1 :], line]
        self._on_line(line)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass  # the pause is over
