"""The sentences for somebody who watches a terminal: what of the log of all parts matters to him, and nothing else."""

import signal
from collections.abc import Callable
from time import monotonic

from millstream.cli.up.log_view import LogEvent

AGAIN_AFTER = 60.0  # seconds in which the same trouble of the same part is not told again
ENDS_TOLD = 5  # ends in a row that are worth another sentence
LONGEST = 300  # characters of a reason; the log has all of it
TRACEBACK = "Traceback (most recent call last):"


class Notices:
    """Reads the events of all parts in their order, and remembers which part is down and who waits for Redis."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._ready: set[str] = set()
        self._ends: dict[str, int] = {}  # by part that is down: how often it has ended since it was up
        self._waiting: set[str] = set()  # parts that wait for Redis
        self._told: dict[tuple[str, str], float] = {}
        self._tracebacks: set[str] = set()  # parts that are writing one

    def ready(self, child: str) -> None:
        """Notes that a part was told to be ready."""
        self._ready.add(child)

    def of(self, child: str, event: LogEvent) -> str | None:
        """Returns the sentence for an event."""
        match event:
            case {"event": "child_ended", "child": str() as part, "status": int() as status}:
                return self._ended(part, status)
            case {"event": "loaded", "model": str() as model}:
                return self._back(child) or self._once_ready(child, f"{child}: model {model} is loaded")
            case {"event": "listening" | "background_started"}:
                return self._back(child)
            case {"event": "waiting_for_redis", "queue": str()}:
                return None  # the same process tells it of itself, and this part does not say when it is back
            case {"event": "waiting_for_redis" | "redis_away", "error": str() as error}:
                return self._away(child, f"queue: {_short(error)} The parts wait for it.")
            case {"event": "valkey_gone", "status": int() as status}:
                return self._away(child, f"queue: the embedded Valkey {how_it_ended(status)}; it is started again")
            case {"event": "redis_back" | "valkey_ready"}:
                return self._queue_back(child)
            case _:
                return _in_words(child, event) or self._trouble(child, event)

    def of_line(self, child: str, line: str) -> str | None:
        """Returns the sentence for output that is no event: the last line of a traceback."""
        if line.startswith(TRACEBACK):
            self._tracebacks.add(child)
        elif child in self._tracebacks and line and not line.startswith((" ", "\t")):
            self._tracebacks.discard(child)
            return f"{child}: {_short(line)} (the log has its traceback)"
        return None

    def _ended(self, part: str, status: int) -> str | None:
        self._waiting.discard(part)
        ends = self._ends[part] = self._ends.get(part, 0) + 1
        if ends % ENDS_TOLD == 0:
            return f"{part}: {how_it_ended(status)}, {ends} times in a row now; the log says why"
        return f"{part}: {how_it_ended(status)}; it is started again" if ends == 1 else None

    def _back(self, child: str) -> str | None:
        return f"{child}: back" if self._ends.pop(child, 0) and child in self._ready else None

    def _once_ready(self, child: str, told: str) -> str | None:
        return told if child in self._ready else None

    def _away(self, child: str, told: str) -> str | None:
        first = not self._waiting
        self._waiting.add(child)
        return told if first else None

    def _queue_back(self, child: str) -> str | None:
        if child not in self._waiting:
            return None
        self._waiting.discard(child)
        return None if self._waiting else "queue: back"

    def _trouble(self, child: str, event: LogEvent) -> str | None:
        """Returns words for any event that says that something is broken, with what to look for in the log."""
        name, exception = str(event.get("event")), str(event.get("exception") or "")
        if not exception and event.get("level") not in ("error", "critical"):
            return None
        if name == "cannot_start" and child not in self._ready:
            return None  # `up` itself ends with this reason, or starts it once more
        if self._now() - self._told.get((child, name), -AGAIN_AFTER) < AGAIN_AFTER:
            return None
        self._told[child, name] = self._now()
        why = event.get("error") or event.get("reason") or exception.strip().rpartition("\n")[2]
        subject = f" of {event['model']}" if event.get("model") else ""
        return (
            f"{child}: {_short(str(why or 'something is wrong'))} ({name}{subject} at {event.get('time')} in the log)"
        )


def _in_words(child: str, event: LogEvent) -> str | None:
    match event:
        case {"event": "unloaded", "model": str() as model}:
            return f"{child}: model {model} is unloaded"
        case {"event": "cannot_load", "model": str() as model, "error": str() as error}:
            return f"{child}: model {model} cannot be loaded: {_short(error)} It is tried again when it is asked for."
        case {"event": "engine_sick", "model": str() as model}:
            return f"{child}: the engine of {model} failed several times in a row and rests; the log says why"
        case {"event": "engine_tried_again", "model": str() as model}:
            return f"{child}: the engine of {model} is tried again"
        case {"event": "upstream_away", "upstream": str() as upstream, "error": str() as error}:
            return f"{child}: {upstream} does not answer: {_short(error)}"
        case {"event": "upstream_back", "upstream": str() as upstream}:
            return f"{child}: {upstream} answers again"
        case {"event": "redis_evicts", "policy": str() as policy, "remedy": str() as remedy} if child == "gateway":
            return f"queue: Redis may remove jobs when its memory is full (maxmemory-policy {policy}): {_short(remedy)}"
        case {"event": "child_killed", "child": str() as part}:
            return f"{part}: did not stop in time and was killed"
        case {"event": "worker_evicted", "worker": str() as worker, "model": str() as model} if child != "up":
            return f"worker {worker} of {model} is silent: its jobs move on"
        case _:
            return None


def how_it_ended(status: int) -> str:
    """Returns how a process ended, from its exit status; a negative one is the signal that killed it."""
    if status >= 0:
        return f"ended with status {status}"
    return (
        f"was killed by {signal.Signals(-status).name}" if -status in {*signal.Signals} else f"was killed by {-status}"
    )


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[:LONGEST] + " …"
