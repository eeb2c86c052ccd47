"""Log events as lines for readers. Paths, names and errors come from whoever sends a request: what they hold is shown,
and never obeyed by the reader's terminal."""

import json
import re
from collections.abc import Callable
from typing import Any

from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.typing import EventDict, WrappedLogger

COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Returns a text without control characters and invisible ones, but for line ends: each is written as Python writes
    it (`\\x1b`)."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)


def without_controls(text: str) -> str:
    """Returns a text of a model or a client as a terminal may show it: all its letters, also the invisible ones that
    join others, but no control characters other than line ends and tabs."""
    return text.translate(CONTROLS)


def printable_json(text: str) -> str:
    """Returns JSON as it is, but for letters that it passes on to a terminal although nobody sees them (C1 controls,
    changes of direction, line separators)."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)


def json_line(event: Any, default: Callable[[Any], Any] = str) -> str:
    """Returns an event as JSON in one line. `default`: what makes JSON of other objects."""
    return printable_json(json.dumps(event, ensure_ascii=False, default=default))


class ReadableRenderer:
    """One event as a line with its fields, in colours where they are wanted. A traceback is Python's own: the local
    variables, which other formats of it show, hold prompts and keys."""

    def __init__(self, colors: bool) -> None:
        self._render = ConsoleRenderer(
            colors=colors, timestamp_key="time", pad_event_to=24, exception_formatter=plain_traceback
        )

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        """Renders, as a processor of structlog."""
        shown = {key: _without_colour(value) for key, value in event.items()}
        pieces = COLOUR.split(self._render(logger, name, shown))
        return "".join(piece if index % 2 else printable(piece) for index, piece in enumerate(pieces))


def _without_colour(value: Any) -> Any:
    """Colours are the renderer's alone."""
    return value.replace("\x1b", "\\x1b") if isinstance(value, str) else value
