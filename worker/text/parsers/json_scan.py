"""Finds where a JSON object ends, in a text that comes in pieces."""


class JsonScan:
    """Follows braces, brackets and strings; what is inside them is not checked."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._string = False
        self._escaped = False

    def feed(self, text: str) -> int | None:
        """Returns the index just after the closing brace, or None if it is not in this piece."""
        for index, char in enumerate(text):
            if self._string:
                self._in_string(char)
            elif char == '"':
                self._string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return index + 1
        return None

    def _in_string(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == '"':
            self._string = False
