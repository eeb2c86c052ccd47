"""Stop strings in a text that comes in pieces."""

from collections.abc import Sequence


class StopMatcher:
    """Ends the text where the first stop string completes; of several that complete with the same character the
    longest counts. Nothing of it leaks, whatever the pieces; with `include` it is delivered as well."""

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        self._stops = [stop for stop in stops if stop]
        self._include = include
        self._held: str = ""
        self.stopped_by = ""  # the stop string that ended the text

    @property
    def hit(self) -> bool:
        """Tells whether a stop string has ended the text."""
        return bool(self.stopped_by)

    def feed(self, text: str) -> str:
        """Returns the text that is certainly not part of a stop string; nothing more after a hit."""
        if self.hit:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        found = self._found(text)
        if found is not None:
            self.stopped_by, self._held = found[1], ""
            return text[: found[0]]
        keep = self._possible(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Returns the beginning of a stop string that never came."""
        held, self._held = self._held, ""
        return held

    def _found(self, text: str) -> tuple[int, str] | None:
        """Returns where the delivered text ends, if a stop string is in it, and which one."""
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if not found:
            return None
        end, start, stop = min(found)
        return (end if self._include else start), stop

    def _possible(self, text: str) -> int:
        """Returns the length of the longest end of the text that may become a stop string."""
        return max(partial(text, stop) for stop in self._stops)


def partial(text: str, word: str) -> int:
    """Returns the length of the longest end of `text` that is a proper beginning of `word`."""
    for length in range(min(len(word) - 1, len(text)), 0, -1):
        if text.endswith(word[:length]):
            return length
    return 0
