"""Stop strings in a text that comes in pieces."""

from collections import deque
from collections.abc import Sequence


class StopMatcher:
    """Ends the text where the first stop string completes; of several that complete with the same character the
    longest counts. Nothing of it leaks, whatever the pieces; with `include` it is delivered as well. A character costs
    the same however many and however long the stop strings are."""

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        words = [stop for stop in stops if stop]
        self._automaton = _Automaton(words) if words else None
        self._include = include
        self._state = 0
        self._held: str = ""  # as long as the state is deep: the beginning of a stop string, perhaps
        self.stopped_by = ""  # the stop string that ended the text

    @property
    def hit(self) -> bool:
        """Tells whether a stop string has ended the text."""
        return bool(self.stopped_by)

    def feed(self, text: str) -> str:
        """Returns the text that is certainly not part of a stop string; nothing more after a hit."""
        if self.hit:
            return ""
        automaton = self._automaton
        if automaton is None or (not self._state and automaton.beginnings.isdisjoint(text)):
            return text
        self._state, read, self.stopped_by = automaton.walk(self._state, text)
        known = self._held + text[:read]
        if self.stopped_by:
            self._held = ""
            return known if self._include else known[: len(known) - len(self.stopped_by)]
        sure = len(known) - automaton.depths[self._state]
        self._held = known[sure:]
        return known[:sure]

    def flush(self) -> str:
        """Returns the beginning of a stop string that never came."""
        held, self._held, self._state = self._held, "", 0
        return held


class _Automaton:
    """Aho and Corasick's: a state stands for the longest beginning of a word that the text so far ends with. State 0 is
    none. Made in one pass over the words."""

    def __init__(self, words: Sequence[str]) -> None:
        self.beginnings = frozenset(word[0] for word in words)
        self.depths = [0]
        self._next: list[dict[str, int]] = [{}]
        self._shorter = [0]  # the state of the next shorter beginning that the text ends with
        self._longest = [""]  # the longest word that the text ends with in this state
        for word in words:
            self._add(word)
        self._link()

    def walk(self, state: int, text: str) -> tuple[int, int, str]:
        """Read on from a state up to the first word that completes: the state, how much was read, and the word; or all
        of the text and no word."""
        following, shorter, longest = self._next, self._shorter, self._longest
        for index, char in enumerate(text):
            while state and char not in following[state]:
                state = shorter[state]
            state = following[state].get(char, 0)
            if longest[state]:
                return state, index + 1, longest[state]
        return state, len(text), ""

    def _add(self, word: str) -> None:
        state = 0
        for depth, char in enumerate(word, 1):
            known = self._next[state].get(char)
            if known is None:
                known = self._next[state][char] = len(self._next)
                self._next.append({})
                self.depths.append(depth)
                self._shorter.append(0)
                self._longest.append("")
            state = known
        self._longest[state] = word

    def _link(self) -> None:
        """Links the states by depth: what is shorter is linked already."""
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            for char, child in self._next[state].items():
                back = self._shorter[state]
                while back and char not in self._next[back]:
                    back = self._shorter[back]
                self._shorter[child] = self._next[back].get(char, 0)
                self._longest[child] = self._longest[child] or self._longest[self._shorter[child]]
                waiting.append(child)


def partial(text: str, word: str) -> int:
    """Returns the length of the longest end of `text` that is a proper beginning of `word`."""
    for length in range(min(len(word) - 1, len(text)), 0, -1):
        if text.endswith(word[:length]):
            return length
    return 0
