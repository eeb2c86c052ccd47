"""The map from models to the Redis servers that have their queues, read from one setting.

    llama*=redis://b:6379/0,qwen*=redis+sentinel://c:26379,d:26379/mymaster

Each entry is `PATTERN=URL`, with a comma or white space between two. `*` in a pattern stands for anything, `?` for one
character. The first pattern that matches a model's name counts. What matches none lies at home.
"""

import re
from dataclasses import dataclass

from millstream.common.broker.connection.url import SCHEMES, parse

_SCHEME = "|".join(map(re.escape, sorted(SCHEMES, key=len, reverse=True)))
_ENTRY = re.compile(rf"(?:^|[,\s]+)([^,\s=]+)=(?=(?:{_SCHEME})://)")
_LATER_NAME = re.compile(r"[,\s]+([^,\s=:@/]+)=")
EXAMPLE = "llama*=redis://host:6379/0"


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """The server of the models whose names the pattern matches."""

    pattern: str
    url: str

    def takes(self, name: str) -> bool:
        """Tells whether the pattern matches the name."""
        return re.fullmatch(_expression(self.pattern), name, re.DOTALL) is not None


def read_places(text: str) -> list[ModelPlace]:
    """Raises `ValueError`, without repeating a URL: it may hold a password."""
    text = text.strip(" \t\r\n,")
    if not text:
        return []
    found = list(_ENTRY.finditer(text))
    if not found or found[0].start() > 0:
        raise ValueError(f"expected PATTERN=URL with a comma between two, such as {EXAMPLE}")
    ends = [entry.start() for entry in found[1:]] + [len(text)]
    places: list[ModelPlace] = []
    for entry, end in zip(found, ends, strict=True):
        place = ModelPlace(entry[1], text[entry.end() : end].strip().rstrip(","))
        _check(place, places)
        places.append(place)
    return places


def _check(place: ModelPlace, earlier: list[ModelPlace]) -> None:
    """Raises `ValueError` for an entry that cannot be meant so."""
    shadow = next((each.pattern for each in earlier if each.takes(place.pattern)), None)
    if shadow == place.pattern:
        raise ValueError(f"`{place.pattern}` stands there twice")
    if shadow is not None:
        raise ValueError(f"`{place.pattern}` is never reached: `{shadow}` before it takes its models. Put it first")
    if later := _LATER_NAME.search(place.url.rpartition("@")[2].partition("?")[0]):
        raise ValueError(f"`{later[1]}` has no Redis URL: expected PATTERN=URL, such as {EXAMPLE}")
    try:
        parse(place.url)
    except ValueError as error:
        raise ValueError(f"`{place.pattern}`: {error}") from None


def _expression(pattern: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern)


class ModelServers:
    """The map of one process. `home` has what matches no pattern."""

    def __init__(self, home: str, text: str = "") -> None:
        self.home = home
        self._places = read_places(text)

    @property
    def others(self) -> list[str]:
        """Returns the URLs of the servers that are not home, each once."""
        return [url for url in dict.fromkeys(place.url for place in self._places) if url != self.home]

    def url_of(self, model: str) -> str:
        """Returns the URL of the server that has a model's queue."""
        return next((place.url for place in self._places if place.takes(model)), self.home)
