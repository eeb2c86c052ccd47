"""One streamed answer, read by a client that comes back, and checked token by token against the hash chain."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx

from millstream.common.hashchain import chain_next, chain_start
from millstream.worker.engines.simulated.tokenizer import SimulatedTokenizer

CLIENT_PATIENCE = 8.0  # seconds of silence after which a client gives a connection up
COME_BACK_AFTER = 0.1  # seconds between two tries
JUST, SOON = 0.1, 1.0  # seconds before and after a fault in which the silence it causes begins
TRANSIENT = (429, 500, 502, 503)  # statuses after which a client tries again


@dataclass(frozen=True, slots=True)
class Ask:
    """A chat request of the simulated model whose answer is known beforehand."""

    model: str
    text: str
    seed: int
    tokens: int

    def body(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": self.text}],
            "seed": self.seed,
            "max_tokens": self.tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def answer(self) -> list[str]:
        """Returns the words of the one right answer."""
        messages = [{"role": "user", "content": self.text}]
        token = chain_start(SimulatedTokenizer().chat(messages, [], go_on=False, kwargs={}), self.seed)
        words: list[str] = []
        for _ in range(self.tokens):
            words.append(f"{token:08x}")
            token = chain_next(token)
        return words


@dataclass(slots=True)
class Heard:
    """The part of one answer that a client has had, over all its connections. Times are monotonic seconds."""

    text: str = ""
    ids: list[str] = field(default_factory=list[str])
    arrivals: list[float] = field(default_factory=list[float])
    finishes: list[str] = field(default_factory=list[str])
    usages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    errors: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    dones: int = 0
    connections: int = 0

    @property
    def request(self) -> str:
        """Returns the request's id, once an event has told it."""
        return self.ids[0].partition(":")[0] if self.ids else ""

    @property
    def complete(self) -> bool:
        return self.dones > 0

    def gap_after(self, moment: float) -> float | None:
        """Returns the longest silence, in seconds, that began around a moment; None if that was not amid the stream.
        Chunks under way at that moment still arrive after it."""
        pairs = zip(self.arrivals, self.arrivals[1:], strict=False)
        return max((b - a for a, b in pairs if moment - JUST < a < moment + SOON), default=None)

    def take(self, id: str, data: str) -> None:
        """Takes one SSE event."""
        if data == "[DONE]":
            self.dones += 1
            return
        event = json.loads(data)
        if "error" in event:
            self.errors.append(event["error"])
            return
        if id:
            self.ids.append(id)
        if event.get("usage"):
            self.usages.append(event["usage"])
        for choice in event["choices"]:
            if piece := choice["delta"].get("content"):
                self.text += piece
                self.arrivals.append(monotonic())
            if choice["finish_reason"]:
                self.finishes.append(choice["finish_reason"])


@dataclass(frozen=True, slots=True)
class Verdict:
    """The difference of an answer from the one right answer, in tokens, and what else was wrong with its stream."""

    lost: int
    duplicated: int
    foreign: int
    faults: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not (self.lost or self.duplicated or self.foreign or self.faults)


def judge(ask: Ask, heard: Heard, *, complete: bool = True) -> Verdict:
    """Compares every token with the one that belongs there. Without `complete` the stream was left: only what came is
    judged."""
    got, right = heard.text.split(), ask.answer()
    due = right if complete else right[: len(got)]
    lost = len(set(due) - set(got))
    duplicated = len(got) - len(set(got))
    foreign = len(set(got) - set(right))
    faults = [] if got == due or lost or duplicated or foreign else ["words out of order"]
    faults += _wrong_places(heard)
    if complete:
        faults += _wrong_end(ask, heard)
    return Verdict(lost, duplicated, foreign, tuple(faults))


def _wrong_places(heard: Heard) -> list[str]:
    places = [int(id.rpartition(":")[2]) for id in heard.ids]
    requests = {id.rpartition(":")[0] for id in heard.ids}
    wrong = [f"ids of {len(requests)} requests"] if len(requests) > 1 else []
    if places != list(range(1, len(places) + 1)):
        wrong.append(f"ids are not 1 to {len(places)}: {places[:5]}...{places[-5:]}")
    return wrong


def _wrong_end(ask: Ask, heard: Heard) -> list[str]:
    wrong: list[str] = []
    if heard.finishes != ["length"]:
        wrong.append(f"finish reasons {heard.finishes}")
    if heard.dones != 1:
        wrong.append(f"{heard.dones} times [DONE]")
    counts = [usage["completion_tokens"] for usage in heard.usages]
    if counts != [ask.tokens]:
        wrong.append(f"usage {counts} of {ask.tokens}")
    return wrong


async def events(response: httpx.Response) -> AsyncGenerator[tuple[str, str]]:
    """Yields the SSE events of a response: id and data."""
    id = data = ""
    async for line in response.aiter_lines():
        if line.startswith("id: "):
            id = line[4:]
        elif line.startswith("data: "):
            data = line[6:]
        elif not line and data:
            yield id, data
            id = data = ""


class StreamClient:
    """Asks once and reads to the end, whatever happens on the way: it comes back with `Last-Event-ID`, or with its
    `Idempotency-Key` if it has heard nothing yet. `base` gives the gateway to try next."""

    def __init__(self, http: httpx.AsyncClient, base: Callable[[], str], ask: Ask, key: str) -> None:
        self._http = http
        self.base = base
        self.ask = ask
        self.key = key  # empty: none
        self.headers: dict[str, str] = {}  # sent with every try
        self.heard = Heard()
        self.pace = 0.0  # seconds this client takes over each event

    async def run(self) -> Heard:
        """Reads until [DONE] or an error that trying again cannot help."""
        while not self.heard.complete and not self.heard.errors:
            try:
                await self.listen()
            except (httpx.TransportError, httpx.StreamError):
                pass  # that is what coming back is for
            if not self.heard.complete and not self.heard.errors:
                await asyncio.sleep(COME_BACK_AFTER)
        return self.heard

    async def listen(self) -> None:
        """Reads one connection, as long as it lasts."""
        headers = self.headers | ({"idempotency-key": self.key} if self.key else {})
        if self.heard.ids:
            headers["last-event-id"] = self.heard.ids[-1]
        self.heard.connections += 1
        url = f"{self.base()}/v1/chat/completions"
        async with self._http.stream("POST", url, json=self.ask.body(), headers=headers) as response:
            if response.status_code != 200:
                body = await response.aread()
                if response.status_code not in TRANSIENT:
                    self.heard.errors.append({"status": response.status_code, "body": body.decode()})
                return
            async for id, data in events(response):
                self.heard.take(id, data)
                if self.pace:
                    await asyncio.sleep(self.pace)
