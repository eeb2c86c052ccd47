"""The last words of a command that failed: one sentence and what to do, whatever went wrong."""

import sys
import tempfile
import traceback
from pathlib import Path

import structlog
import typer

from millstream.common.errors import MillstreamError
from millstream.common.process.tasks import leaves

FAILED = 1  # exit status
FAULT = 70  # exit status of a fault of ours: a supervisor's new start may do better


def tell(error: Exception) -> int:
    """Tells why a command ends and returns its exit status. A fault of ours is told in a sentence, too; its traceback
    goes to a file that the sentence names, or to the log of a process that has one."""
    known = [told for leaf in leaves(error) if (told := _known(leaf)) is not None]
    if len(known) == len(leaves(error)):
        for told in dict.fromkeys(known):
            typer.secho(f"millstream: {told}", err=True, fg="red")
        return FAILED
    if structlog.is_configured():
        structlog.stdlib.get_logger().critical("crashed", exc_info=error)
    else:
        typer.secho(f"millstream: {_fault(error)}", err=True, fg="red")
    return FAULT


def _known(error: BaseException) -> str | None:
    """Returns the sentence for an error that is nobody's mistake in the program; None for any other."""
    from millstream.cli.inspect.diagnosis import remedy_for
    from millstream.common.broker.connection.broker import RedisTrouble

    if isinstance(error, RedisTrouble):
        return f"{error.message} {remedy_for(error)}"
    if isinstance(error, MillstreamError):
        return error.message
    if isinstance(error, OSError) and error.filename is not None:
        return f"Cannot use {error.filename}: {error.strerror}. Choose another place, or change who may write there."
    return None


def _fault(error: Exception) -> str:
    name = "; ".join(dict.fromkeys(f"{type(leaf).__name__}: {leaf}" for leaf in leaves(error)))
    where = _written("".join(traceback.format_exception(error)))
    return f"This is a fault of Millstream's own: {name}. {where}"


def _written(text: str) -> str:
    try:
        with tempfile.NamedTemporaryFile("w", prefix="millstream-", suffix=".txt", delete=False) as file:
            file.write(text)
    except OSError:
        sys.stderr.write(text)
        return "Its traceback stands above: please report it."
    return f"Please report it with its traceback, which is in {Path(file.name)}."
