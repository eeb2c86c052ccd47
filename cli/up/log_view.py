"""The children's log events as lines: on standard error, or in a file."""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO, cast

from millstream.common.process.readable_log import ReadableRenderer, json_line, printable

LogEvent = Mapping[str, Any]


class LogView:
    """The children's log events of at least `level`, in our own log's form, each with its child's name."""

    def __init__(self, target: TextIO | None = None, *, as_json: bool, level: str = "debug") -> None:
        self._given = target
        self._least = logging.getLevelNamesMapping()[level.upper()]
        self._render = None if as_json else ReadableRenderer(self._target.isatty())

    @property
    def _target(self) -> TextIO:
        """Returns standard error, asked for each time: while bars are drawn, rich puts itself in front of it."""
        return self._given or sys.stderr

    def text(self, child: str, event: LogEvent) -> str:
        """Returns one event as one line."""
        if self._render is None:
            return json_line({**event, "child": child})
        level = str(event.get("level", "info"))
        return f"{child:10} {self._render(None, level, dict(event))}"

    def event(self, child: str, event: LogEvent) -> None:
        if logging.getLevelNamesMapping().get(str(event.get("level", "info")).upper(), logging.INFO) < self._least:
            return
        self._target.write(self.text(child, event) + "\n")
        self._target.flush()

    def line(self, child: str, line: str) -> None:
        """Shows output that is no event: a library's print, an interpreter's last words."""
        if self._render is None:
            return self.event(child, {"event": "output", "text": line})
        self._target.write(f"{child:10} {printable(line)}\n")
        return self._target.flush()


class OwnLog:
    """A stream for the log of `up` itself: its lines take the way of the children's."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._on_line(line)
        return len(text)

    def flush(self) -> None:
        """Does nothing: a line is passed on when it is whole."""

    def isatty(self) -> bool:
        return False


def event_of(line: str) -> dict[str, Any]:
    """Returns the log event that a child wrote; empty for output that is none."""
    if not line.startswith("{"):
        return {}
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def plain(line: str) -> str:
    """Returns a child's line for a reader: of a log event its name and its reason, anything else as it is."""
    event = event_of(line)
    reason = event.get("error") or event.get("reason")
    return f"{event['event']}: {reason}" if reason else str(event.get("event", line))
