"""The worker's side of the trying process: started when it is first needed, used again, replaced when it is lost."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from time import monotonic

import structlog

from millstream.common.errors import BadGrammar, EngineError
from millstream.common.job import Guide
from millstream.common.process.leash import leashed
from millstream.worker.engines.grammar.compiling import Vocabulary, refused
from millstream.worker.engines.guide_limits import GuideLimits

_MODULE = "millstream.worker.engines.grammar.trying"
_START = 120.0  # seconds the process may take to read a vocabulary on a busy machine
_HEAVY = 1.0  # seconds of one guide, after which the process goes: it would keep the memory it took
_LOOK_EVERY = 0.1  # seconds between two looks whether the answer is still wanted

log = structlog.stdlib.get_logger(part="guides")


class Abandoned(Exception):
    """Nobody waits for the guide any more."""


class _Lost(Exception):
    """The process has ended, or had to be ended, before it answered; `str` tells which."""


class GuideTrial:
    """One process at most. Used by one thread, which lives as long as the worker: the process dies with it."""

    def __init__(self, vocabulary: Vocabulary, limits: GuideLimits) -> None:
        self._vocabulary = vocabulary
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return self._process.pid if self._process is not None else None

    def run(self, guide: Guide, wanted: Callable[[], bool]) -> None:
        """Returns if the guide can be compiled within the limits. Raises `BadGrammar` if not, `Abandoned` as soon as
        it is not `wanted`, `EngineError` if no process can be started."""
        if self._process is not None and self._process.poll() is not None:
            self.close()  # it ended while it had nothing to do
        connection = self._connection or self._start(wanted)
        since = monotonic()
        question = json.dumps([self._limits.seconds, guide.kind, guide.value, guide.strict]).encode()
        try:
            why = self._answer(connection, question, self._limits.seconds, wanted).decode()
        except _Lost as error:
            log.warning("guide_failed", kind=guide.kind, bytes=len(guide.value), why=str(error))
            raise refused(guide, str(error)) from error
        if monotonic() - since > _HEAVY:
            self.close()
        if why:
            raise BadGrammar(why, param=guide.param)

    def close(self) -> None:
        """End the process; another begins with the next guide."""
        process, connection, self._process, self._connection = self._process, self._connection, None, None
        if connection is not None:
            connection.close()
        if process is not None:
            process.kill()
            process.wait()

    def _start(self, wanted: Callable[[], bool]) -> Connection:
        ours, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                leashed([sys.executable, "-m", _MODULE, str(theirs.fileno())], signal.SIGKILL),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._connection = ours
        words, limits = self._vocabulary, self._limits
        setup = {"tokenizer": words.tokenizer, "size": words.size, "ends": words.ends, "memory": limits.memory}
        try:
            self._answer(ours, json.dumps(setup).encode(), _START, wanted)
        except _Lost as error:
            raise EngineError(f"The process that compiles guides did not start: {error}.") from error
        return ours

    def _answer(self, connection: Connection, question: bytes, seconds: float, wanted: Callable[[], bool]) -> bytes:
        """Returns what the process says to `question`; if it says nothing it is ended."""
        until = monotonic() + seconds
        try:
            connection.send_bytes(question)
            while not connection.poll(_LOOK_EVERY):
                if not wanted():
                    raise Abandoned
                if monotonic() > until:
                    raise _Lost(f"it took longer than {seconds:g} s (the server's setting `guide_seconds`)")
            return connection.recv_bytes()
        except (EOFError, OSError) as error:
            self.close()
            raise _Lost("the compiler crashed or needed too much memory") from error
        except (Abandoned, _Lost):
            self.close()
            raise
