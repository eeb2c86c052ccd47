"""The screen of `up` while its children start and run: a progress display on a terminal, plain lines elsewhere.

Progress and the final words go to standard output, the children's logs to standard error.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from structlog.dev import ConsoleRenderer

LogEvent = Mapping[str, Any]
PLAIN_STEP = 0.25  # of a stage: how much progress is worth another line


class LogView:
    """The children's log events, in our own log's form, each with its child's name."""

    def __init__(self, target: TextIO | None = None, *, as_json: bool) -> None:
        self._given = target
        self._render = (
            None if as_json else ConsoleRenderer(colors=self._target.isatty(), timestamp_key="time", pad_event_to=24)
        )

    @property
    def _target(self) -> TextIO:
        """Returns standard error, asked for each time: while bars are drawn, rich puts itself in front of it."""
        return self._given or sys.stderr

    def text(self, child: str, event: LogEvent) -> str:
        """Returns one event as one line."""
        if self._render is None:
            return json.dumps({**event, "child": child}, ensure_ascii=False, default=str)
        level = str(event.get("level", "info"))
        return f"{child:10} {self._render(None, level, dict(event))}"

    def event(self, child: str, event: LogEvent) -> None:
        self._target.write(self.text(child, event) + "\n")
        self._target.flush()

    def line(self, child: str, line: str) -> None:
        """Shows output that is no event: a library's print, an interpreter's last words."""
        if self._render is None:
            return self.event(child, {"event": "output", "text": line})
        self._target.write(f"{child:10} {line}\n")
        return self._target.flush()


class Screen:
    """Plain lines; `TerminalScreen` has the progress display."""

    def __init__(self, logs: LogView) -> None:
        self.logs = logs
        self._said: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def loading(self, child: str, stage: str, fraction: float | None) -> None:
        """Shows that a child is at `stage` of its start; `fraction` (0 to 1) of it is done, None if it cannot tell."""
        last_stage, last = self._said.get(child, ("", 0.0))
        part = fraction or 0.0
        if stage != last_stage or part - last >= PLAIN_STEP or (part == 1 and last < 1):
            self._said[child] = (stage, part)
            self.say(f"{child}: {stage}" + (f" {part:.0%}" if fraction is not None else ""))

    def ready(self, child: str) -> None:
        """Shows that a child is of use now."""
        self.say(f"{child}: ready")

    def say(self, text: str) -> None:
        """Shows a line for the user, exactly as it is: no wrapping, so that it can be pasted."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Ends the progress; lines may still come."""


class TerminalScreen(Screen):
    """A bar for each child that is starting, gone when all are ready."""

    def __init__(self, logs: LogView) -> None:
        super().__init__(logs)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=Console(file=sys.stdout),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()  # from here on also prints to sys.stdout and sys.stderr go above the bars
        return self

    def loading(self, child: str, stage: str, fraction: float | None) -> None:
        if child not in self._tasks:
            self._tasks[child] = self._progress.add_task(child)
        total = None if fraction is None else 1.0
        self._progress.update(self._tasks[child], description=f"{child}: {stage}", total=total, completed=fraction)

    def ready(self, child: str) -> None:
        if child in self._tasks:
            self._progress.remove_task(self._tasks.pop(child))
        super().ready(child)

    def say(self, text: str) -> None:
        self._progress.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


def open_screen(log_format: str) -> Screen:
    """Returns the right screen for where standard output and standard error go."""
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    logs = LogView(as_json=as_json)
    return TerminalScreen(logs) if sys.stdout.isatty() else Screen(logs)


@dataclass(frozen=True, slots=True)
class Listener:
    """Sorts a child's output: progress, log events, and the rest."""

    name: str
    screen: Screen

    def line(self, line: str) -> None:
        match _event(line):
            case {"event": "loading", "stage": str() as stage, **rest}:
                fraction = rest.get("fraction")
                self.screen.loading(self.name, stage, float(fraction) if fraction is not None else None)
            case {} as event if event:
                self.screen.logs.event(self.name, event)
            case _:
                self.screen.logs.line(self.name, line)


def plain(line: str) -> str:
    """Returns a child's line for a reader: of a log event its name and its reason, anything else as it is."""
    event = _event(line)
    reason = event.get("error") or event.get("reason")
    return f"{event['event']}: {reason}" if reason else str(event.get("event", line))


def _event(line: str) -> dict[str, Any]:
    if not line.startswith("{"):
        return {}
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
