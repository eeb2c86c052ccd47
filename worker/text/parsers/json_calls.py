"""Tool calls written as JSON objects: Hermes, Llama 3, Mistral and plain JSON. Arguments go out as they grow."""

import json
import re
from collections.abc import Callable
from typing import Any, Literal, cast

from millstream.common.chunk import ToolDelta
from millstream.worker.text.parsers.formats import CallFormat
from millstream.worker.text.parsers.json_scan import JsonScan
from millstream.worker.text.parsers.parsed import Parsed
from millstream.worker.text.stop_strings import partial

_HEAD = re.compile(r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)+")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_NAMED = re.compile(r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)+")')
_BRACKETED = re.compile(r"([\w.-]+)(?:\[CALL_ID\]\w*)?\[ARGS\]\s*(?=\{)")  # Mistral's from 2025 on
_BRACKETED_SO_FAR = re.compile(r"[\w.-]{1,128}(?:\[[\w\[\]]{0,64}\s*)?")
_State = Literal["text", "call", "arguments", "rest", "suffix"]


class JsonCalls:
    """Takes calls out of the text. What turns out to be none, or is malformed before its name is known, stays text;
    unless calls are `forced`, where the whole answer is calls, and one that was cut is told as far as it came."""

    def __init__(
        self, format: CallFormat, call_id: Callable[[int], str], parallel: bool = True, forced: bool = False
    ) -> None:
        self._format = format
        self._call_id = call_id
        self._parallel = parallel
        self._forced = forced
        self._state: _State = "text"
        self._held = ""  # not decided yet
        self._raw = ""  # the marker and white space before the held text, were it no call
        self._bare = format.bare  # the answer may still begin with a call
        self._scan = JsonScan()
        self._scanned = 0  # how much of the held text the scan has seen
        self._closed = False  # whether the call ends with its arguments
        self._skipped = re.compile(rf"[\s{re.escape(format.between)}]*")
        self.calls = 0

    def feed(self, text: str, out: Parsed) -> None:
        self._held += text
        while self._advance(out):
            pass

    def finish(self, out: Parsed) -> None:
        """Let go of what was held back."""
        held, raw = self._held, self._raw
        self._held = self._raw = ""
        undecided = self._state in ("text", "call")
        trailing = self.calls > 0 and not raw.strip() and self._skipped.fullmatch(held)
        if not undecided or trailing:
            return
        if not self._forced:
            out.text += raw + held
        elif (cut := _NAMED.search(held)) is not None:
            self._begin(str(json.loads(cut[1], strict=False)), out)

    def _advance(self, out: Parsed) -> bool:
        """Takes one decision and tells whether another may follow."""
        match self._state:
            case "text":
                return self._text(out)
            case "call":
                return self._call(out)
            case "arguments" | "rest":
                return self._object(out)
            case "suffix":
                return self._after()

    def _text(self, out: Parsed) -> bool:
        if self._bare:
            start = self._held.lstrip()
            if not start:
                return False
            self._bare = False
            if start[0] in "{[" and not (self._format.marker and self._format.marker[0] == start[0]):
                self._enter("call")
                return True
        marker = self._format.marker
        before, found, rest = self._held.partition(marker) if marker else (self._held, "", "")
        if found:
            kept = before.rstrip()
            out.text += kept
            self._raw, self._held = before[len(kept) :] + marker, rest
            self._enter("call")
            return True
        sure = self._held[: len(self._held) - partial(self._held, marker)].rstrip()
        out.text += sure
        self._held = self._held[len(sure) :]
        return False

    def _call(self, out: Parsed) -> bool:
        """Reads what is between a marker (or an earlier call of the group) and the next call's arguments."""
        match = self._skipped.match(self._held)
        start = match.end() if match else 0
        if start == len(self._held):
            return False
        if self._held[start] != "{":
            if self._format.bracketed and (decided := self._bracketed(start, out)) is not None:
                return decided
            skip = start if self.calls and not self._raw else 0
            return self._no_call(out, skip, skip)
        head = _HEAD.match(self._held, start)
        if head is not None:
            self._begin(str(json.loads(head[1], strict=False)), out)
            self._held = self._held[head.end() :]
            self._enter("arguments")
            return True
        unread = max(start, self._scanned)
        end = self._scan.feed(self._held[unread:])
        self._scanned = len(self._held)
        return end is not None and self._whole(start, unread + end, out)

    def _bracketed(self, start: int, out: Parsed) -> bool | None:
        """Reads a call as `name[ARGS]{…}` and tells whether it has begun; None if this is none."""
        head = _BRACKETED.match(self._held, start)
        if head is None:
            return False if _BRACKETED_SO_FAR.fullmatch(self._held, start) else None
        self._begin(head[1], out)
        self._held, self._closed = self._held[head.end() :], True
        self._enter("arguments")
        return True

    def _whole(self, start: int, end: int, out: Parsed) -> bool:
        """Reads a complete object that is not written in the usual order."""
        call = _call_of(self._held[start:end])
        if call is None:
            return self._no_call(out, 0, end)
        self._begin(call[0], out)
        self._emit(ToolDelta(self.calls - 1, arguments=call[1]), out)
        self._held = self._held[end:]
        self._enter("suffix" if self._format.suffix else "call")
        return True

    def _no_call(self, out: Parsed, text_from: int, text_to: int) -> bool:
        """Takes what was read for text after all, marker included; what follows `text_to` is looked at again."""
        out.text += self._raw + self._held[text_from:text_to]
        self._held = self._held[text_to:]
        self._raw, self._state = "", "text"
        return True

    def _enter(self, state: _State) -> None:
        """Enters a state; a fresh scan begins with it."""
        self._state, self._scan, self._scanned = state, JsonScan(1 if state == "rest" else 0), 0

    def _begin(self, name: str, out: Parsed) -> None:
        self.calls += 1
        self._raw = ""
        self._emit(ToolDelta(self.calls - 1, self._call_id(self.calls - 1), name), out)

    def _emit(self, delta: ToolDelta, out: Parsed) -> None:
        if self._parallel or delta.index == 0:
            out.tools.append(delta)

    def _object(self, out: Parsed) -> bool:
        """Reads inside the arguments, or after them until the call's object closes."""
        end = self._scan.feed(self._held)
        taken = self._held if end is None else self._held[:end]
        self._held = self._held[len(taken) :]
        if self._state == "arguments" and taken:
            self._emit(ToolDelta(self.calls - 1, arguments=taken), out)
        if end is None:
            return False
        done: _State = "suffix" if self._format.suffix else "call"
        if self._closed:  # the arguments were the whole call; a marker comes before the next one
            self._closed, done = False, "text"
        elif self._state == "arguments":
            done = "rest"
        self._enter(done)
        return True

    def _after(self) -> bool:
        """Reads what comes after a call: its suffix, if it comes."""
        start = self._held.lstrip()
        suffix = self._format.suffix
        if suffix.startswith(start) and start != suffix:
            return False
        self._held = start.removeprefix(suffix)
        self._state = "text"
        return True


def _call_of(written: str) -> tuple[str, str] | None:
    """Returns name and arguments (JSON) of a call written as an object in any order; None if it is not one."""
    try:
        call = cast(dict[str, Any], json.loads(written, strict=False))
    except (ValueError, RecursionError):
        return None
    inner = call.get("function")
    call = cast(dict[str, Any], inner) if isinstance(inner, dict) else call
    arguments = call.get("arguments", call.get("parameters"))
    if not isinstance(call.get("name"), str) or not call["name"]:
        return None
    return call["name"], arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
