"""Marks that a text is searched for while it still grows."""

from collections.abc import Sequence

from millstream.worker.text.stop_strings import partial


def first_mark(text: str, marks: Sequence[str]) -> tuple[int, str] | None:
    """Returns where the first of these marks begins, and which one it is; None if there is none."""
    found = [(at, mark) for mark in marks if (at := text.find(mark)) >= 0]
    return min(found) if found else None


def sure_length(text: str, marks: Sequence[str]) -> int:
    """Returns how much of a text without a mark is no beginning of one."""
    return len(text) - max(partial(text, mark) for mark in marks)


def may_become(text: str, marks: Sequence[str]) -> bool:
    """Tells whether the whole text may be the beginning of a mark. An empty one may."""
    return any(mark.startswith(text) for mark in marks)
