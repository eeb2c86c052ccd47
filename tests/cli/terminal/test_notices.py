"""The events of the log that become a sentence on the terminal, and the file that takes all of them."""

import io
import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO, cast

import pytest

from millstream.cli.up.log_file import LogFile, LogTaken, LogUnusable, open_log
from millstream.cli.up.log_view import LogView
from millstream.cli.up.notices import Notices
from millstream.cli.up.screen import Listener, Screen
from millstream.common.process.readable_log import printable


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class SaidLines(Screen):
    """The lines a screen says."""

    def __init__(self, *logs: LogView, notices: Notices | None) -> None:
        super().__init__(*logs, notices=notices)
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def watched(now: float = 0.0) -> tuple[SaidLines, list[float]]:
    clock = [now]
    return SaidLines(notices=Notices(lambda: clock[0])), clock


def test_an_unknown_trouble_is_told_with_what_to_look_for_and_not_again_at_once() -> None:
    screen, clock = watched()
    gateway = Listener("gateway", screen)
    crash = {
        "event": "request_crashed",
        "level": "error",
        "time": "2026-11-27T01:02:03.000000Z",
        "exception": "Traceback (most recent call last):\n  File x\nKeyError: 'there'",
    }
    for _ in range(3):
        gateway.line(json.dumps(crash))
    assert screen.said == ["gateway: KeyError: 'there' (request_crashed at 2026-11-27T01:02:03.000000Z in the log)"]
    clock[0] += 61
    gateway.line(json.dumps(crash))
    assert len(screen.said) == 2


def test_a_bare_traceback_is_told_by_its_last_line_and_is_whole_in_the_log(tmp_path: Path, closing: ExitStack) -> None:
    log = LogFile(tmp_path / "up.log")
    closing.callback(log.close)
    screen = SaidLines(LogView(cast(TextIO, log), as_json=False), notices=Notices())
    worker = Listener("worker-1", screen)
    for line in ("Traceback (most recent call last):", '  File "x.py", line 1', "    boom()", "ValueError: no boom"):
        worker.line(line)
    worker.line("another line")
    assert screen.said == ["worker-1: ValueError: no boom (the log has its traceback)"]
    assert 'File "x.py", line 1' in log.path.read_text()


def test_what_is_not_worth_a_line_has_none() -> None:
    screen, _ = watched()
    worker = Listener("worker-1", screen)
    for event in ("job_claimed", "job_ended", "worker_draining", "redis_back"):
        worker.line(json.dumps({"event": event, "level": "info", "job": "j"}))
    worker.line(json.dumps({"event": "request_failed", "level": "warning", "error": "its client was wrong"}))
    worker.line("a library's print")
    assert screen.said == []


def test_several_parts_that_miss_redis_say_so_once() -> None:
    screen, _ = watched()
    away = json.dumps({"event": "waiting_for_redis", "level": "warning", "error": "Redis at h refuses: NOAUTH."})
    back = json.dumps({"event": "redis_back", "level": "info"})
    names = ("gateway", "background", "worker-1")
    for name in names:
        Listener(name, screen).line(away)
    for name in names:
        Listener(name, screen).line(back)
    assert screen.said == ["queue: Redis at h refuses: NOAUTH. The parts wait for it.", "queue: back"]


def test_a_part_that_keeps_ending_is_not_a_line_each_time() -> None:
    screen, _ = watched()
    up = Listener("up", screen)
    for _ in range(10):
        up.line(json.dumps({"event": "child_ended", "child": "worker-1", "status": 1, "level": "warning"}))
    assert screen.said == [
        "worker-1: ended with status 1; it is started again",
        "worker-1: ended with status 1, 5 times in a row now; the log says why",
        "worker-1: ended with status 1, 10 times in a row now; the log says why",
    ]
    signalled = {"event": "child_ended", "child": "gateway", "status": -signal.SIGSEGV, "level": "warning"}
    up.line(json.dumps(signalled))
    assert screen.said[-1] == "gateway: was killed by SIGSEGV; it is started again"


def test_a_model_that_comes_and_goes_later_is_told() -> None:
    screen, _ = watched()
    worker = Listener("worker-1", screen)
    loaded = json.dumps({"event": "loaded", "level": "info", "model": "m"})
    worker.line(loaded)
    assert screen.said == []  # its part is not ready yet: that is the line to come
    screen.ready("worker-1")
    worker.line(json.dumps({"event": "unloaded", "level": "info", "model": "m"}))
    worker.line(json.dumps({"event": "cannot_load", "level": "error", "model": "m", "error": "No room."}))
    worker.line(loaded)
    assert screen.said[1:] == [
        "worker-1: model m is unloaded",
        "worker-1: model m cannot be loaded: No room. It is tried again when it is asked for.",
        "worker-1: model m is loaded",
    ]


def test_no_name_of_others_steers_the_terminal() -> None:
    screen, _ = watched()
    screen.ready("worker-1")
    evil = "m\x1b[2J\x1b]0;title\x07\u202e"
    Listener("worker-1", screen).line(json.dumps({"event": "loaded", "level": "info", "model": evil}))
    Listener("worker-1", screen).line(json.dumps({"event": "loading", "stage": evil, "fraction": None}))
    assert all(letter.isprintable() for line in screen.said for letter in line)
    assert printable("通义千问 é") == "通义千问 é"


@pytest.mark.parametrize("as_json", [False, True])
def test_nor_does_the_log_of_all_parts(as_json: bool) -> None:
    written = io.StringIO()
    view = LogView(written, as_json=as_json)
    view.event("gateway", {"event": "request_answered", "level": "info", "path": "/ui/\x1b[2J\x00\x9bx\u2028"})
    view.line("worker-1", "\x1b]0;title\x07")
    assert all(letter.isprintable() for line in written.getvalue().split("\n") for letter in line)
    assert written.getvalue().count("\n") == 2


def test_the_file_is_bounded_and_keeps_the_newest(tmp_path: Path, closing: ExitStack) -> None:
    log = LogFile(tmp_path / "up.log", most_bytes=1000)
    closing.callback(log.close)
    for number in range(100):
        log.write(f"line {number:090}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["up.log", "up.log.1"]
    assert all(path.stat().st_size <= 1200 for path in tmp_path.iterdir())
    assert f"line {99:090}" in log.path.read_text()


def test_two_clusters_on_one_state_folder_have_a_file_each(tmp_path: Path, closing: ExitStack) -> None:
    first, second = open_log(tmp_path, None), open_log(tmp_path, None)
    closing.callback(first.close)
    closing.callback(second.close)
    assert (first.path.name, second.path.name) == ("up.log", "up-2.log")
    with pytest.raises(LogTaken, match="--log-file"):
        open_log(tmp_path, first.path)
    with pytest.raises(LogUnusable, match="--log-file"):
        open_log(tmp_path, tmp_path)


def test_a_full_disk_is_told_once_and_stops_nothing(closing: ExitStack) -> None:
    full, told = Path("/dev/full"), list[str]()
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    log = LogFile(full)
    closing.callback(log.close)
    log.failed = told.append
    for _ in range(3):
        log.write("a line\n")
    assert told == ["The log cannot be written to /dev/full: No space left on device."]
