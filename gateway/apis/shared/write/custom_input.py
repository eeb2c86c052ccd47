"""The input of a custom tool, taken out of the arguments `{"input": "…"}` while the model writes them."""

import json
import re
from typing import cast

from millstream.gateway.apis.shared.read.custom_tools import INPUT

OPENING = re.compile(rf'\s*\{{\s*"{INPUT}"\s*:\s*"')
# Characters and complete escape sequences; the first half of a surrogate pair only where its other half cannot follow.
HEX = "[0-9a-fA-F]"
WHOLE = re.compile(
    rf'(?:[^"\\]|\\[^u]|\\u(?![dD][89abAB]){HEX}{{4}}'
    rf"|\\u[dD][89abAB]{HEX}{{2}}(?:\\u{HEX}{{4}}|(?=[^\\])|(?=\\[^u])))*"
)


class CustomInput:
    """One call's input growing. Pieces of the arguments go in, pieces of the text come out: never a part of an escape
    sequence. Arguments of another form come out at the end, as they are."""

    def __init__(self) -> None:
        self._arguments = ""  # until the text begins
        self._pending = ""  # of the text, what cannot be told yet
        self._inside = False
        self._over = False
        self.text = ""

    def grow(self, arguments: str) -> str:
        """Returns what can be told of the text now."""
        if self._over:
            return ""
        if not self._inside:
            self._arguments += arguments
            opening = OPENING.match(self._arguments)
            if opening is None:
                return ""
            self._inside, arguments = True, self._arguments[opening.end() :]
        return self._told(arguments)

    def finish(self) -> str:
        """Returns the rest: of arguments that are not of that form all."""
        if self._inside or not self._arguments:
            return ""
        self.text = _any_form(self._arguments)
        return self.text

    def _told(self, piece: str) -> str:
        self._pending += piece
        whole = cast(re.Match[str], WHOLE.match(self._pending)).end()
        ready, self._pending = self._pending[:whole], self._pending[whole:]
        self._over = self._pending.startswith('"')
        told = _unescaped(ready)
        self.text += told
        return told


def _unescaped(ready: str) -> str:
    try:
        text = str(json.loads(f'"{ready}"', strict=False))
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    except ValueError:  # an escape sequence that JSON does not have: the model's own words are better than none
        return ready


def _any_form(arguments: str) -> str:
    try:
        value = json.loads(arguments, strict=False)
    except ValueError:
        return arguments
    if isinstance(value, dict):
        found = cast(dict[str, object], value).get(INPUT)
        return found if isinstance(found, str) else arguments
    return value if isinstance(value, str) else arguments


def custom_input(arguments: str) -> str:
    """Returns the input that complete arguments hold."""
    whole = CustomInput()
    return whole.grow(arguments) + whole.finish()
