"""Readers of event streams that are not ours, each fed with the bytes of a stream, and one by the standard's letter
(https://html.spec.whatwg.org/multipage/server-sent-events.html) to compare them with."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import anthropic._streaming
import httpx
import httpx_sse
import openai._streaming
import sseclient  # pyright: ignore[reportMissingTypeStubs]

Decoder = Callable[[list[bytes]], list[str]]  # parts of a stream, as they come; the data of its events


@dataclass
class Standard:
    """A reader of streams that makes of them what a browser would."""

    events: list[str] = field(default_factory=list[str])
    comments: list[str] = field(default_factory=list[str])
    ids: list[str] = field(default_factory=list[str])
    reconnection: int | None = None  # milliseconds
    _data: list[str] = field(default_factory=list[str])
    _id: str = ""

    def read(self, stream: bytes) -> "Standard":
        """All of it. What no blank line ends is no event, but its `retry` counts."""
        *lines, rest = stream.decode().split("\n")
        assert not rest, f"a line without an end: {rest!r}"
        for line in lines:
            self._take(line)
        return self

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if self._data:
                self.events.append("\n".join(self._data))
                self.ids.append(self._id)
            self._data = []
        elif not name:
            self.comments.append(value)
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        elif name == "retry":
            self.reconnection = int(value)
        else:
            assert name == "event", f"a field nobody knows: {line!r}"


class StreamParts(httpx.SyncByteStream):
    """A body that comes in parts."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)


def by_openai(parts: list[bytes]) -> list[str]:
    return [event.data for event in openai._streaming.SSEDecoder().iter_bytes(iter(parts))]


def by_anthropic(parts: list[bytes]) -> list[str]:
    return [event.data for event in anthropic._streaming.SSEDecoder().iter_bytes(iter(parts))]


def by_httpx_sse(parts: list[bytes]) -> list[str]:
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=StreamParts(parts))
    return [event.data for event in httpx_sse.EventSource(response).iter_sse()]


def by_sseclient(parts: list[bytes]) -> list[str]:
    return [event.data for event in sseclient.SSEClient(iter(parts)).events()]  # type: ignore[attr-defined]


DECODERS: dict[str, Decoder] = {
    "openai": by_openai,
    "anthropic": by_anthropic,
    "httpx-sse": by_httpx_sse,
    "sseclient-py": by_sseclient,
}
