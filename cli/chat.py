"""`millstream chat`: a conversation in the terminal, streamed from a gateway."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any

import httpx

from millstream.cli.gateway_client import client_options
from millstream.cli.settings import ChatSettings, ClientSettings
from millstream.common.process.readable_log import printable, without_controls

GREETING = "Talking to {model}. An empty line or Ctrl-D ends, /new begins again."
CONNECT_TIMEOUT = 5.0  # seconds; reading has none, an answer may wait in the queue


class ChatError(Exception):
    """The error that the gateway (or the way to it) answered instead of text."""


CountTokens = Callable[[dict[str, Any]], None]


class AnswerStats:
    """The figures of one answer, from the moment of asking. `clock` tells seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._asked = clock()
        self._first: float | None = None
        self._last = self._asked
        self._usage: dict[str, Any] = {}

    def heard(self, text: str) -> None:
        """Notes when text came."""
        if text:
            self._last = self._clock()
            self._first = self._last if self._first is None else self._first

    def count(self, usage: dict[str, Any]) -> None:
        """Notes the token counts, as the API tells them."""
        self._usage = usage

    def line(self) -> str:
        """Returns the figures in words."""
        prompt, made = self._usage.get("prompt_tokens", 0), self._usage.get("completion_tokens", 0)
        details: dict[str, Any] = self._usage.get("prompt_tokens_details") or {}
        cached = details.get("cached_tokens", 0)
        said = f"{made} tokens after a prompt of {prompt}" + (f", {cached} of them cached" if cached else "")
        if self._first is None:
            return said
        said += f"; the first after {self._first - self._asked:.2f} s"
        seconds = self._last - self._first
        return said + (f", then {(made - 1) / seconds:.1f} tokens/s" if made > 1 and seconds > 0 else "")


def _uncounted(usage: dict[str, Any]) -> None: ...


def _silent(news: str) -> None: ...


def _tell(news: str) -> None:
    """Shows how the answer waits, apart from what it says."""
    sys.stderr.write(f"({printable(news)})\n")
    sys.stderr.flush()


def client(settings: ClientSettings) -> httpx.Client:
    """Returns a client for the gateway's API."""
    return httpx.Client(timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT), **client_options(settings))


def run(settings: ChatSettings) -> int:
    """Runs the command and returns its exit status."""
    with client(settings) as http:
        try:
            model = settings.model or first_model(http)
            sys.stdout.write(GREETING.format(model=printable(model)) + "\n")
            _converse(http, settings, model)
        except ChatError as error:
            sys.stderr.write(f"millstream: {printable(str(error))}\n")
            return 1
        except KeyboardInterrupt:
            sys.stdout.write("\n")
    return 0


def first_model(http: httpx.Client) -> str:
    """Returns the first model the gateway lists that a worker chats with now, else the first. Raises `ChatError` when
    there is none."""
    try:
        response = http.get("/v1/models")
    except httpx.HTTPError as error:
        raise ChatError(f"No gateway at {http.base_url}: {error}. Start one with: millstream up") from error
    if response.is_error:
        raise ChatError(_message(response.text))
    models = response.json()["data"]
    if not models:
        raise ChatError("The gateway has no model yet: start a worker, or see `millstream doctor`.")
    served = (each for each in models if each.get("workers") and "chat" in each.get("capabilities", ("chat",)))
    return next(served, models[0])["id"]


def _converse(http: httpx.Client, settings: ChatSettings, model: str) -> None:
    beginning = [{"role": "system", "content": settings.system}] if settings.system else []
    messages = list(beginning)
    while question := _ask():
        if question == "/new":
            messages = list(beginning)
            continue
        messages.append({"role": "user", "content": question})
        answer, stats = "", AnswerStats()
        for text in answer_to(http, request_body(settings, model, messages), _tell, stats.count):
            answer += text
            stats.heard(text)
            sys.stdout.write(without_controls(text))
            sys.stdout.flush()
        sys.stdout.write("\n")
        if settings.stats:
            _tell(stats.line())
        sys.stdout.write("\n")
        messages.append({"role": "assistant", "content": answer})


def request_body(settings: ChatSettings, model: str, messages: list[dict[str, str]]) -> dict[str, Any]:
    """Returns a streaming request; what the user did not set is left to the server."""
    chosen = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if settings.stats:
        given["stream_options"] = {"include_usage": True}
    return {"model": model, "messages": messages, "stream": True, **given}


def answer_to(
    http: httpx.Client, body: dict[str, Any], tell: Callable[[str], None] = _silent, count: CountTokens = _uncounted
) -> Iterator[str]:
    """Yields the answer's text as it comes; `tell` is given each news of how it waits, `count` the token counts. Raises
    `ChatError`."""
    try:
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.is_error:
                raise ChatError(_message(response.read().decode()))
            yield from texts(response.iter_lines(), tell, count)
    except httpx.HTTPError as error:
        raise ChatError(f"The connection to {http.base_url} broke: {error}") from error


def texts(
    lines: Iterable[str], tell: Callable[[str], None] = _silent, count: CountTokens = _uncounted
) -> Iterator[str]:
    """Yields the text in an event stream's lines; `tell` is given what its comments say anew, `count` the token counts.
    Raises `ChatError` for an error event."""
    told = "keep-alive"
    for line in lines:
        if line.startswith(":") and (news := line[1:].strip()) not in ("keep-alive", told):
            told = news
            tell(news)
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if not data or data == "[DONE]":
            continue
        event = json.loads(data)
        if "error" in event:
            raise ChatError(event["error"]["message"])
        if event.get("usage"):
            count(event["usage"])
        for choice in event.get("choices", []):
            yield choice["delta"].get("content") or ""


def _ask() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def _message(body: str) -> str:
    try:
        return json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return body.strip() or "The gateway gave an empty answer."
