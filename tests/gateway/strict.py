"""The official client's types, taken at their word: no unknown field, none missing, no wrong type."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from types import UnionType
from typing import Any, Generic, Literal, TypeVar, Union, cast, get_args, get_origin

import httpx
import pytest
from anthropic.types import ErrorResponse, Message, MessageTokensCount, RawMessageStreamEvent
from openai.types import Batch, Completion, CreateEmbeddingResponse, ErrorObject, FileDeleted, FileObject
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionDeleted,
    ChatCompletionStoreMessage,
)
from openai.types.conversations import (
    Conversation,
    ConversationDeletedResource,
    ConversationItem,
    ConversationItemList,
)
from openai.types.responses import (
    InputTokenCountResponse,
    Response,
    ResponseInputMessageItem,
    ResponseItem,
    ResponseItemList,
    ResponseOutputItem,
    ResponseStreamEvent,
    ResponseUsage,
)
from pydantic import BaseModel, TypeAdapter

T = TypeVar("T", bound=BaseModel)
Listed = TypeVar("Listed")
# Fields beside OpenAI's: open-weights servers', and what the Open Responses specification asks of a response.
OURS = {"reasoning_content", "presence_penalty", "frequency_penalty", "store", "namespace"}
OURS |= {"token_ids", "prompt_token_ids", "prompt_logprobs"}
OURS |= {"attached", "store_started_at"}  # of a page that keeps its conversations here


def strictly(kind: type[T], body: dict[str, Any] | str) -> T:
    """The body as the client's type, after every field at every depth was found in that type."""
    data = json.loads(body) if isinstance(body, str) else body
    parsed = TypeAdapter(kind).validate_python(data)
    _compare(parsed, data, getattr(kind, "__name__", type(parsed).__name__))
    return parsed


def _compare(parsed: object, data: object, path: str) -> None:
    if isinstance(parsed, BaseModel):
        assert isinstance(data, dict), f"{path}: {data!r}"
        names = {field.alias or name: name for name, field in type(parsed).model_fields.items()}
        unknown = set(data) - set(names) - OURS
        assert not unknown, f"{path} has unknown fields {unknown}"
        for alias, name in names.items():
            required = type(parsed).model_fields[name].is_required()
            assert alias in data or not required, f"{path}.{alias} is missing"
            if alias in data:
                _typed(
                    getattr(parsed, name), data[alias], type(parsed).model_fields[name].annotation, f"{path}.{alias}"
                )
    elif isinstance(parsed, list):
        assert isinstance(data, list) and len(parsed) == len(data), path
        for index, (one, raw) in enumerate(zip(parsed, data, strict=True)):
            _compare(one, raw, f"{path}[{index}]")


def _typed(value: object, data: object, annotation: Any, path: str) -> None:
    if data is None:
        union = get_origin(annotation) in (Union, UnionType)
        assert union and type(None) in get_args(annotation), f"{path} must not be null"
    _compare(value, data, path)


class Page(BaseModel, Generic[Listed]):
    """Holds what OpenAI's lists have in common."""

    object: Literal["list"]
    data: list[Listed]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedResponse(BaseModel):
    """Says that a response is gone; the official client reads nothing of it."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class Shortened(BaseModel):
    """A conversation made short, with the users' messages, which OpenAI keeps and its client's own type leaves out."""

    id: str
    object: Literal["response.compaction"]
    created_at: int
    output: list[ResponseInputMessageItem | ResponseOutputItem]
    usage: ResponseUsage


class ApiFailure(BaseModel):
    """Holds an error as OpenAI's API answers it."""

    error: ErrorObject


_ID = r"/[^/]+"
# Every answer's type, by the request's method and path: the first line that fits.
WHOLE: list[tuple[str, str, Any]] = [
    ("POST", "/v1/chat/completions", ChatCompletion),
    ("GET", "/v1/chat/completions", Page[ChatCompletion]),
    ("GET", f"/v1/chat/completions{_ID}/messages", Page[ChatCompletionStoreMessage]),
    ("DELETE", f"/v1/chat/completions{_ID}", ChatCompletionDeleted),
    ("GET|POST", f"/v1/chat/completions{_ID}", ChatCompletion),
    ("POST", "/v1/completions", Completion),
    ("POST", "/v1/embeddings", CreateEmbeddingResponse),
    ("POST", "/v1/responses", Response),
    ("POST", "/v1/responses/input_tokens", InputTokenCountResponse),
    ("POST", "/v1/responses/compact", Shortened),
    ("GET", f"/v1/responses{_ID}/input_items", ResponseItemList | Page[ResponseItem]),
    ("DELETE", f"/v1/responses{_ID}", DeletedResponse),
    ("GET|POST", f"/v1/responses{_ID}(/cancel)?", Response),
    ("GET", "/v1/conversations", Page[Conversation]),
    ("GET|POST", f"/v1/conversations{_ID}/items", ConversationItemList | Page[ConversationItem]),
    ("GET", f"/v1/conversations{_ID}/items{_ID}", ConversationItem),
    ("DELETE", f"/v1/conversations{_ID}/items{_ID}", Conversation),
    ("DELETE", f"/v1/conversations{_ID}", ConversationDeletedResource),
    ("GET|POST", f"/v1/conversations({_ID})?", Conversation),
    ("GET", "/v1/files", Page[FileObject]),
    ("DELETE", f"/v1/files{_ID}", FileDeleted),
    ("GET|POST", f"/v1/files({_ID})?", FileObject),
    ("GET", "/v1/batches", Page[Batch]),
    ("GET|POST", f"/v1/batches({_ID})?(/cancel)?", Batch),
    ("POST", "/v1/messages", Message),
    ("POST", "/v1/messages/count_tokens", MessageTokensCount),
]
EVENTS: dict[str, Any] = {
    "/v1/chat/completions": ChatCompletionChunk,
    "/v1/completions": Completion,
    "/v1/responses": ResponseStreamEvent,
    "/v1/messages": RawMessageStreamEvent,
}


def hold_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test whose gateway says something that the types do not know, or leaves something out, whoever asks."""
    send, send_and_wait = httpx.AsyncClient.send, httpx.Client.send

    async def checked(self: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await send(self, request, **options)
        if options.get("stream"):
            response.stream = _HeldStream(response)
        else:
            check(response)
        return response

    def checked_and_waited(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        response = send_and_wait(self, request, **options)
        if not options.get("stream"):
            check(response)
        return response

    monkeypatch.setattr(httpx.AsyncClient, "send", checked)
    monkeypatch.setattr(httpx.Client, "send", checked_and_waited)


class _HeldStream(httpx.AsyncByteStream):
    """Passes a stream on and holds each event against its type as soon as it is whole."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._inner = cast(httpx.AsyncByteStream, response.stream)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held = b""
        async for part in self._inner:
            whole, _, held = (held + part).rpartition(b"\n\n")
            if _is_stream(self._response):
                _check_events(self._response.request, whole.decode())
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


def check(response: httpx.Response) -> None:
    """Checks one whole answer, or every event of one."""
    if _is_stream(response):
        _check_events(response.request, response.text)
    elif response.headers.get("content-type", "") == "application/json" and response.text:
        kind = _kind(response)
        if kind is not None:
            strictly(kind, _as_typed(response.json()))


def _kind(response: httpx.Response) -> Any:
    method, path = response.request.method, response.request.url.path.rstrip("/")
    if response.status_code == 200:
        found = (kind for ways, known, kind in WHOLE if method in ways.split("|") and re.fullmatch(known, path))
        return next(found, None)
    if response.status_code < 400 or not path.startswith("/v1/"):
        return None
    of_anthropic = path.startswith("/v1/messages") or "anthropic-version" in response.request.headers
    return ErrorResponse if of_anthropic else ApiFailure


def _is_stream(response: httpx.Response) -> bool:
    return "text/event-stream" in response.headers.get("content-type", "")


def _check_events(request: httpx.Request, text: str) -> None:
    path = request.url.path
    named = path.startswith(("/v1/responses", "/v1/messages"))
    root = "/v1/responses" if path.startswith("/v1/responses/") else path
    if root not in EVENTS:
        return
    for name, data in named_events(text):
        assert name == (data["type"] if named else ""), f"an event called {name!r}: {data}"
        if name == "error" and root == "/v1/messages":
            strictly(ErrorResponse, data)
        elif not named and "error" in data:
            strictly(ApiFailure, data)
        else:
            strictly(EVENTS[root], _as_typed(data))


def _as_typed(data: dict[str, Any]) -> dict[str, Any]:
    """Returns an answer in which what OpenAI says, and its own types leave out, is as the types have it: streamed
    completions that go on, the first token of an echo, streamed calls of custom tools, a request that is too large."""
    if data.get("type") == "error" and data["error"]["type"] == "request_too_large":
        data["error"]["type"] = "invalid_request_error"
    if data.get("object") == "text_completion":
        for choice in data["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
            for name, filler in (("token_logprobs", 0.0), ("top_logprobs", {})):
                scores = choice.get("logprobs") or {}
                scores |= (
                    {name: [filler if each is None else each for each in scores[name]]} if scores.get(name) else {}
                )
    if data.get("object") == "chat.completion.chunk":
        for choice in data["choices"]:
            calls = choice["delta"].get("tool_calls") or []
            choice["delta"]["tool_calls"] = [
                call for call in calls if call.get("type") != "custom" and "custom" not in call
            ]
    return data


def named_events(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each event's name, empty where it has none, and what it holds."""
    name = ""
    for line in text.split("\n"):
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: ") and line != "data: [DONE]":
            yield name, json.loads(line.removeprefix("data: "))
            name = ""
