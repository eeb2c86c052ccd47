"""Reasoning: what a model writes between <think> and </think> before its answer."""

from typing import Literal

from millstream.worker.text.parsers.parsed import Parsed
from millstream.worker.text.stop_strings import partial

OPEN, CLOSE = "<think>", "</think>"


class ReasoningParser:
    """Splits the text into reasoning and answer. `opened`: the prompt's template has written <think> already."""

    def __init__(self, opened: bool = False) -> None:
        self._state: Literal["before", "inside", "between", "answer"] = "inside" if opened else "before"
        self._fresh = opened  # line breaks next to the marks are not part of the thought
        self._held = ""

    @property
    def inside(self) -> bool:
        return self._state == "inside"

    def feed(self, text: str, out: Parsed) -> str:
        """Adds reasoning to `out` and returns the answer's text."""
        if self._state == "answer":
            return text
        self._held += text
        if self._state == "before" and not self._begin():
            return ""
        if self._state == "inside" and not self._think(out):
            return ""
        if self._state == "between":
            self._held = self._held.lstrip("\n")
            self._state = "answer" if self._held else "between"
        answer, self._held = self._held, ""
        return answer

    def finish(self, out: Parsed) -> str:
        """Let go of what was held back."""
        held, self._held = self._held, ""
        if self._state != "inside":
            return held
        out.reasoning += held.rstrip("\n")
        return ""

    def _begin(self) -> bool:
        """Tells whether it is decided how the text begins."""
        start = self._held.lstrip()
        if start.startswith(OPEN):
            self._held, self._state, self._fresh = start[len(OPEN) :], "inside", True
            return True
        if OPEN.startswith(start):
            return False
        self._state = "answer"
        return True

    def _think(self, out: Parsed) -> bool:
        """Tells whether the thought is over."""
        if self._fresh:
            self._held = self._held.lstrip("\n")
            self._fresh = not self._held
        thought, mark, rest = self._held.partition(CLOSE)
        if mark:
            out.reasoning += thought.rstrip("\n")
            self._held, self._state = rest, "between"
            return True
        sure = self._held[: len(self._held) - partial(self._held, CLOSE)].rstrip("\n")
        out.reasoning += sure
        self._held = self._held[len(sure) :]
        return False
