"""Chooses the screen of `up` and the place of its log, from the settings and from what the output is."""

import sys
from typing import TextIO, cast

from millstream.cli.settings import UpSettings
from millstream.cli.up.log_file import LogFile, open_log
from millstream.cli.up.log_view import LogView
from millstream.cli.up.notices import Notices
from millstream.cli.up.screen import Screen, TerminalScreen
from millstream.common.errors import MillstreamError


def open_screen(settings: UpSettings) -> tuple[Screen, LogFile | None]:
    """Returns the screen, and the file of the log if it has one. Raises `MillstreamError` for a file that was asked for
    and cannot be written."""
    on_terminal = sys.stdout.isatty() and sys.stderr.isatty()
    file, trouble = _file(settings, on_terminal=on_terminal)
    shown = file is None or settings.verbose
    logs = [_view(settings, None)] if shown else []
    logs += [_view(settings, file)] if file is not None else []
    kind = TerminalScreen if sys.stdout.isatty() else Screen
    screen = kind(*logs, notices=None if shown else Notices())
    if trouble:
        screen.say(f"{trouble} It is shown here instead.")
    if file is not None:
        file.failed = screen.say
    return screen, file


def _file(settings: UpSettings, *, on_terminal: bool) -> tuple[LogFile | None, str]:
    """Returns the file of the log, and why there is none although there should be one."""
    if settings.log_file is not None:
        return open_log(settings.state_dir, settings.log_file), ""
    if settings.verbose or not on_terminal:
        return None, ""
    try:
        return open_log(settings.state_dir, None), ""
    except MillstreamError as error:
        return None, error.message


def _view(settings: UpSettings, file: LogFile | None) -> LogView:
    """Returns a log for readers: JSON where it is asked for, or where standard error is for a program."""
    as_json = settings.log_format == "json"
    as_json |= settings.log_format == "auto" and file is None and not sys.stderr.isatty()
    return LogView(cast(TextIO | None, file), as_json=as_json, level=settings.log_level)


def level_of_parts(settings: UpSettings, screen: Screen) -> str:
    """Returns the least severe event that the parts write; the log itself has those that the settings name."""
    return "info" if screen.watches and settings.log_level != "debug" else settings.log_level
