"""Answers in parts that each name a channel, as gpt-oss writes them (OpenAI's Harmony format): thoughts on `analysis`,
calls `to=functions.NAME`, text on `final`, and what is said beside a call on `commentary`."""

import re
from collections.abc import Callable
from typing import Literal

from millstream.common.chunk import ToolDelta
from millstream.worker.text.parsers.marks import first_mark, may_become, sure_length
from millstream.worker.text.parsers.parsed import Parsed

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_HEADS = (START, CHANNEL)
_FIRST = (START, CHANNEL, " to=", "to=")  # the prompt may have begun the first head
_ENDS = ("<|end|>", "<|call|>", "<|return|>", START, CHANNEL)
_LONGEST_HEAD = 512  # characters: what is longer is no head
_NAME = re.compile(r"<\|channel\|>\s*(\w+)")
_TO = re.compile(r"\bto=(?:functions\.)?([\w.-]{1,256})(?=[^\w.-])")
_Kind = Literal["text", "thought", "call"]


class Channels:
    """Splits an answer into thoughts, text and calls. Text without a head is the answer itself: under a grammar there
    are no channels. Where no tools are `offered`, a call is text; where calls are `forced`, the answer is calls."""

    def __init__(
        self, call_id: Callable[[int], str], offered: bool, parallel: bool = True, forced: bool = False
    ) -> None:
        self._call_id = call_id
        self._offered = offered
        self._parallel = parallel
        self._forced = forced
        self._state: Literal["beginning", "head", "body", "between"] = "beginning"
        self._kind: _Kind = "text"
        self._told: set[_Kind] = set()
        self._gap = ""  # between this part and an earlier one of its kind
        self._held = ""  # not decided yet
        self.calls = 0

    @property
    def inside(self) -> bool:
        """Tells whether a thought is being read."""
        return self._state == "body" and self._kind == "thought"

    def feed(self, text: str, out: Parsed) -> None:
        self._held += text
        while self._advance(out):
            pass

    def finish(self, out: Parsed) -> None:
        """Let go of what was held back. Of a head that was cut its call is told, if its name is whole."""
        held, self._held = self._held, ""
        if self._state == "head":
            if self._offered and (named := _TO.search(held)) is not None:
                self._begin(named[1], out)
        elif self._state in ("beginning", "body") and not (self._forced or self._kind == "call"):
            self._tell(held, out)  # what ends a call's arguments may be a mark that was cut

    def _advance(self, out: Parsed) -> bool:
        """Takes one decision and tells whether another may follow."""
        match self._state:
            case "beginning":
                return self._next_part(_FIRST)
            case "head":
                return self._head(out)
            case "body":
                return self._body(out)
            case "between":
                self._held = self._held.lstrip()
                return self._next_part(_HEADS)

    def _next_part(self, heads: tuple[str, ...]) -> bool:
        """Reads how a part begins: with a head, or at once with its text."""
        if may_become(self._held, heads) and self._held not in heads:
            return False
        headed = self._held.startswith(heads)
        self._state = "head" if headed else "body"
        if not headed:
            self._enter("text")
        return True

    def _head(self, out: Parsed) -> bool:
        head, mark, rest = self._held.partition(MESSAGE)
        if not mark:
            if len(self._held) < _LONGEST_HEAD:
                return False
            self._tell(self._held[:1], out)
            self._held, self._state = self._held[1:], "body"
            return True
        channel, to = _NAME.search(head), _TO.search(f"{head} ")
        self._held, self._state = rest, "body"
        if to is not None and self._offered:
            self._begin(to[1], out)
        else:
            self._enter("thought" if channel is not None and channel[1] == "analysis" else "text")
        return True

    def _body(self, out: Parsed) -> bool:
        found = first_mark(self._held, _ENDS)
        if found is None:
            sure = sure_length(self._held, _ENDS)
            self._tell(self._held[:sure], out)
            self._held = self._held[sure:]
            return False
        at, mark = found
        self._tell(self._held[:at], out)
        self._held = self._held[at:] if mark in _HEADS else self._held[at + len(mark) :]
        self._state = "head" if mark in _HEADS else "between"
        return True

    def _begin(self, name: str, out: Parsed) -> None:
        self._kind = "call"
        self.calls += 1
        self._emit(ToolDelta(self.calls - 1, self._call_id(self.calls - 1), name), out)

    def _enter(self, kind: _Kind) -> None:
        self._kind, self._gap = kind, "\n\n" if kind in self._told else ""

    def _tell(self, text: str, out: Parsed) -> None:
        if not text:
            return
        if self._kind == "call":
            self._emit(ToolDelta(self.calls - 1, arguments=text), out)
            return
        self._told.add(self._kind)
        text, self._gap = self._gap + text, ""
        if self._kind == "thought":
            out.reasoning += text
        else:
            out.text += text

    def _emit(self, delta: ToolDelta, out: Parsed) -> None:
        if self._parallel or delta.index == 0:
            out.tools.append(delta)
