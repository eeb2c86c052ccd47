"""Tool calls whose name stands before their arguments, as DeepSeek V3 and R1 and Kimi K2 write them. Arguments go out
as they grow."""

from collections.abc import Callable
from typing import Literal

from millstream.common.chunk import ToolDelta
from millstream.worker.text.parsers.formats import CallFormat, CallHead
from millstream.worker.text.parsers.json_scan import JsonScan
from millstream.worker.text.parsers.marks import first_mark, may_become, sure_length
from millstream.worker.text.parsers.parsed import Parsed

_LONGEST_HEAD = 512  # characters: what is longer names no function


class HeadedCalls:
    """Takes calls out of the text. What turns out to be none stays text; unless calls are `forced`, where the whole
    answer is calls, and one that was cut is told as far as it came."""

    def __init__(
        self,
        format: CallFormat,
        head: CallHead,
        call_id: Callable[[int], str],
        parallel: bool = True,
        forced: bool = False,
    ) -> None:
        self._head = head
        self._marker = format.marker
        self._starts = (format.marker, head.begins)
        self._after_call = (*head.ends, head.begins)
        self._call_id = call_id
        self._parallel = parallel
        self._forced = forced
        self._state: Literal["text", "head", "arguments", "after"] = "text"
        self._held = ""  # not decided yet
        self._raw = ""  # the marker and white space before the held text, were it no call
        self._scan = JsonScan()
        self.calls = 0

    def feed(self, text: str, out: Parsed) -> None:
        self._held += text
        while self._advance(out):
            pass

    def finish(self, out: Parsed) -> None:
        """Let go of what was held back."""
        undecided, held = self._raw + self._held, self._held.lstrip()
        self._held = self._raw = ""
        if self._state not in ("text", "head"):
            return
        if not self._forced:
            out.text += undecided if undecided.strip() or not self.calls else ""
        elif self._state == "head" and (cut := self._head.named.match(held)) is not None:
            self._begin(cut[1], out)

    def _advance(self, out: Parsed) -> bool:
        """Takes one decision and tells whether another may follow."""
        match self._state:
            case "text":
                return self._text(out)
            case "head":
                return self._name(out)
            case "arguments":
                return self._arguments(out)
            case "after":
                return self._after()

    def _text(self, out: Parsed) -> bool:
        """Lets text go, up to where calls may begin. Some models leave the mark of the group out."""
        found = first_mark(self._held, self._starts)
        at = sure_length(self._held, self._starts) if found is None else found[0]
        kept = self._held[:at].rstrip()
        out.text += kept
        if found is None:
            self._held = self._held[len(kept) :]
            return False
        skipped = len(self._marker) if found[1] == self._marker else 0
        self._raw, self._held = self._held[len(kept) : at + skipped], self._held[at + skipped :]
        self._state = "head"
        return True

    def _name(self, out: Parsed) -> bool:
        rest = self._held.lstrip()
        head = self._head.whole.match(rest)
        if head is not None:
            self._begin(head[1], out)
            self._held, self._state, self._scan = rest[head.end() :], "arguments", JsonScan()
            return True
        begun = rest.startswith(self._head.begins) and len(rest) < _LONGEST_HEAD
        if begun or may_become(rest, [self._head.begins]):
            return False
        out.text += self._raw + self._held[:1]
        self._raw, self._held, self._state = "", self._held[1:], "text"
        return True

    def _arguments(self, out: Parsed) -> bool:
        end = self._scan.feed(self._held)
        taken = self._held if end is None else self._held[:end]
        self._held = self._held[len(taken) :]
        if taken:
            self._emit(out, arguments=taken)
        if end is not None:
            self._state = "after"
        return end is not None

    def _after(self) -> bool:
        """Reads what comes after a call: marks that end it or its group, another call, or text."""
        rest = self._held.lstrip()
        if rest.startswith(self._head.begins):
            self._held, self._state = rest, "head"
            return True
        for mark in self._head.ends:
            if rest.startswith(mark):
                self._held = rest[len(mark) :]
                return True
        if may_become(rest, self._after_call):
            return False
        self._state = "text"
        return True

    def _begin(self, name: str, out: Parsed) -> None:
        self._raw = ""
        self.calls += 1
        self._emit(out, self._call_id(self.calls - 1), name)

    def _emit(self, out: Parsed, id: str = "", name: str = "", arguments: str = "") -> None:
        if self._parallel or self.calls == 1:
            out.tools.append(ToolDelta(self.calls - 1, id, name, arguments))
