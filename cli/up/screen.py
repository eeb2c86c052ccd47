"""The screen of `up` while its children start and run: a calm view on a terminal, plain lines elsewhere.

Progress, what matters, and the final words go to standard output; the children's logs to a file or standard error.
"""

import sys
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from millstream.cli.up.log_view import LogEvent, LogView, event_of
from millstream.cli.up.notices import Notices
from millstream.common.process.readable_log import printable

PLAIN_STEP = 0.25  # of a stage: how much progress is worth another line
ENDS_A_STAGE = ("loaded", "cannot_load", "listening", "background_started")  # events of a part that was ready before


class Screen:
    """Plain lines; `TerminalScreen` has the progress display. `notices`: what to say of the log; None where it can be
    read beside this."""

    def __init__(self, *logs: LogView, notices: Notices | None = None) -> None:
        self._logs = logs
        self._notices = notices
        self._said: dict[str, tuple[str, float]] = {}
        self._ready: set[str] = set()
        self._ending = False

    @property
    def watches(self) -> bool:
        """Tells whether it lives on the parts' events: then they have to write those of level `info`."""
        return self._notices is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def event(self, child: str, event: LogEvent) -> None:
        """Takes a log event."""
        for log in self._logs:
            log.event(child, event)
        self._perhaps_over(child, str(event.get("event")))
        if self._notices is not None:
            self._notice(self._notices.of(child, event))

    def _perhaps_over(self, child: str, event: str) -> None:
        if child in self._ready and event in ENDS_A_STAGE:
            self._over(child)
        elif event == "background_started":  # it has no address at which to see that it is there
            self.ready(child)

    def line(self, child: str, line: str) -> None:
        """Takes output that is no event."""
        for log in self._logs:
            log.line(child, line)
        if self._notices is not None:
            self._notice(self._notices.of_line(child, line))

    def _notice(self, told: str | None) -> None:
        if told is not None:
            self.say(printable(told))

    def loading(self, child: str, stage: str, fraction: float | None) -> None:
        """Shows that a child is at `stage` of its start; `fraction` (0 to 1) of it is done, None if it cannot tell."""
        if not self._ending:
            self._stage(child, printable(stage), fraction)

    def ready(self, child: str) -> None:
        """Shows that a child is of use now."""
        self._over(child)
        self._ready.add(child)
        if self._notices is not None:
            self._notices.ready(child)
        self.say(f"{child}: ready")

    def stopping(self, child: str, what: str) -> None:
        """Shows what a child that was told to stop still does."""
        self._ending = True
        self._stage(child, what, None)

    def stopped(self, child: str) -> None:
        """Shows that a child is gone."""
        self._over(child)
        self.say(f"{child}: stopped")

    def _stage(self, child: str, stage: str, fraction: float | None) -> None:
        last_stage, last = self._said.get(child, ("", 0.0))
        part = fraction or 0.0
        if stage != last_stage or part - last >= PLAIN_STEP or (part == 1 and last < 1):
            self._said[child] = (stage, part)
            self.say(f"{child}: {stage}" + (f" {part:.0%}" if fraction is not None else ""))

    def _over(self, child: str) -> None:
        self._said.pop(child, None)

    def say(self, text: str) -> None:
        """Shows a line for the user, exactly as it is: no wrapping, so that it can be pasted."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Ends the progress; lines may still come."""


class TerminalScreen(Screen):
    """A bar for each child that starts or stops, gone when it is there."""

    def __init__(self, *logs: LogView, notices: Notices | None = None) -> None:
        super().__init__(*logs, notices=notices)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            console=Console(file=sys.stdout),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    @property
    def watches(self) -> bool:
        return True

    def _stage(self, child: str, stage: str, fraction: float | None) -> None:
        if child not in self._tasks:
            self._tasks[child] = self._progress.add_task(child)
        total = None if fraction is None else 1.0
        self._progress.update(self._tasks[child], description=f"{child}: {stage}", total=total, completed=fraction or 0)
        self._progress.start()  # while it runs, also prints to sys.stdout and sys.stderr go above the bars

    def _over(self, child: str) -> None:
        if child in self._tasks:
            self._progress.remove_task(self._tasks.pop(child))
        if not self._tasks:
            self._progress.stop()

    def say(self, text: str) -> None:
        self._progress.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def close(self) -> None:
        for child in [*self._tasks]:
            self._over(child)


@dataclass(frozen=True, slots=True)
class Listener:
    """Sorts a child's output: progress, log events, and the rest."""

    name: str
    screen: Screen

    def line(self, line: str) -> None:
        match event_of(line):
            case {"event": "loading", "stage": str() as stage, **rest}:
                fraction = rest.get("fraction")
                self.screen.loading(self.name, stage, float(fraction) if fraction is not None else None)
            case {} as event if event:
                self.screen.event(self.name, event)
            case _:
                self.screen.line(self.name, line)
