"""Logs are JSON away from a terminal, readable on one, and libraries speak the same way."""

import contextlib
import io
import json
import logging
import os
from collections.abc import Iterator

import pytest
import structlog

from millstream.common import telemetry


class TerminalStream(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_json_elsewhere_with_bound_fields_and_exceptions() -> None:
    stream = io.StringIO()
    telemetry.configure("auto", "info", {"process": "worker"}, stream)
    log = structlog.stdlib.get_logger(part="consumer")
    log.debug("not this")
    try:
        raise ValueError("bad")
    except ValueError:
        log.bind(job="j1").exception("job failed", attempt=2)
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert (
        event.items()
        >= {
            "event": "job failed",
            "process": "worker",
            "part": "consumer",
            "job": "j1",
            "attempt": 2,
            "level": "error",
        }.items()
    )
    assert "ValueError: bad" in event["exception"]


def test_readable_on_a_terminal() -> None:
    stream = TerminalStream()
    telemetry.configure("auto", "info", stream=stream)
    structlog.stdlib.get_logger().info("job claimed", job="j1")
    assert "job claimed" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_a_library_logs_in_the_same_form() -> None:
    stream = io.StringIO()
    telemetry.configure("json", "info", {"process": "gateway"}, stream)
    logging.getLogger("uvicorn.error").warning("port %d is taken", 8000)
    logging.getLogger("httpx").info("one line per request")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event.items() >= {"event": "port 8000 is taken", "logger": "uvicorn.error", "process": "gateway"}.items()


def test_another_format_can_be_forced() -> None:
    stream = TerminalStream()
    telemetry.configure("json", "debug", stream=stream)
    structlog.stdlib.get_logger().debug("detail", text="größer")
    assert json.loads(stream.getvalue())["text"] == "größer"


def test_a_log_whose_reader_has_gone_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:  # noqa: PTH123 (a pipe has no path)
        telemetry.configure("json", "info", stream=stream)
        structlog.stdlib.get_logger().info("draining")
        logging.getLogger("some.library").warning("left")
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def test_what_a_closed_terminal_cannot_take_is_dropped() -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as target:
        os.close(ours)
        stream = telemetry.LastingStream(target)
        stream.write("nobody reads this\n")
        stream.flush()
        assert stream.encoding == target.encoding
        with pytest.raises(OSError, match="Input/output"):
            target.flush()
        with contextlib.suppress(OSError):
            target.close()


ODD = "/v1/models/\x1b[2J\x00\x9b31m\u202e\u2028x"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("format", ["console", "json"])
def test_what_clients_name_moves_no_cursor_and_begins_no_line(format: telemetry.LogFormat, terminal: bool) -> None:
    stream = TerminalStream() if terminal else io.StringIO()
    telemetry.configure(format, "info", stream=stream)
    log = structlog.stdlib.get_logger()
    log.info("request_answered", path=ODD, names=[ODD], more={"of": ODD})
    logging.getLogger("library").warning("odd %s", ODD)
    written = stream.getvalue()
    assert all(letter.isprintable() or letter in "\n\x1b" for letter in written)
    assert "\x1b[2J" not in written and len(written.splitlines()) == 2
    if format == "json":
        assert json.loads(written.splitlines()[0])["path"] == ODD


def test_a_traceback_shows_no_local_variables() -> None:
    stream = TerminalStream()
    telemetry.configure("auto", "info", stream=stream)
    prompt = "".join(("what the ", "client said"))
    try:
        raise ValueError("bad \x1b[2J")
    except ValueError:
        structlog.stdlib.get_logger().exception("request_crashed")
    assert "ValueError: bad" in stream.getvalue() and prompt not in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()
