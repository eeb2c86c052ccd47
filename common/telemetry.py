"""Logs: one event per line, readable on a terminal, JSON elsewhere, with bound fields (job, model, worker, attempt).

`configure` is called once, at a composition root. Everybody else:

    log = structlog.stdlib.get_logger(part="consumer")
    log.info("job_claimed", job=job.id, attempt=job.attempt)

What libraries log through `logging` (uvicorn, transformers, arq) comes out in the same form.
"""

import io
import logging
import sys
from collections.abc import Mapping
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import Processor

from millstream.common.process.readable_log import ReadableRenderer, json_line

LogFormat = Literal["auto", "console", "json"]

QUIET_LIBRARIES = ("httpx", "httpx2", "httpcore", "urllib3", "asyncio", "uvicorn")  # their info repeats events of ours


class LastingStream(io.TextIOBase):
    """A stream whose reader may go: what can no longer be written (a broken pipe, a terminal that was closed, a full
    disk) is dropped. A worker outlives its supervisor's pipe long enough to withdraw."""

    def __init__(self, target: TextIO) -> None:
        self._target = target

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] (its stub says attribute)
        return self._target.encoding

    def write(self, text: str, /) -> int:
        try:
            return self._target.write(text)
        except OSError:
            return 0

    def flush(self) -> None:
        try:
            self._target.flush()
        except (OSError, ValueError):  # the latter where the stream was closed before, as Python 3.13 tells
            pass  # dropped

    def isatty(self) -> bool:
        return self._target.isatty()

    def fileno(self) -> int:
        return self._target.fileno()


def configure(
    format: LogFormat = "auto",
    level: str = "info",
    bound: Mapping[str, str] | None = None,
    stream: TextIO | None = None,
) -> None:
    """Sends every event of at least `level` to `stream` (standard error), each with the fields `bound`."""
    target = cast(TextIO, LastingStream(stream or sys.stderr))
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer = _renderer(format, target)
    structlog.configure(
        processors=[*_common(), structlog.processors.format_exc_info, renderer]
        if isinstance(renderer, structlog.processors.JSONRenderer)
        else [*_common(), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,  # tests configure more than once; the cost is 2 µs per event
    )
    structlog.contextvars.bind_contextvars(**(bound or {}))
    _route_libraries(renderer, target, number)


def _common() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]


def _renderer(format: LogFormat, target: TextIO) -> Processor:
    if format == "json" or (format == "auto" and not target.isatty()):
        return structlog.processors.JSONRenderer(json_line, default=str)
    return ReadableRenderer(target.isatty())


def _route_libraries(renderer: Processor, target: TextIO, number: int) -> None:
    """Lets the standard library's root logger write through the same renderer."""
    chain: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if isinstance(renderer, structlog.processors.JSONRenderer):
        chain.append(structlog.processors.format_exc_info)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_common(), structlog.stdlib.add_logger_name], processors=[*chain, renderer]
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
