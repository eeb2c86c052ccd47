"""The official client's types, taken at their word: no unknown field, none missing, no wrong type."""

import json
from collections.abc import Iterator
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import httpx
from anthropic.types import Message, RawMessageStreamEvent
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

T = TypeVar("T", bound=BaseModel)
# Fields beside OpenAI's: open-weights servers', and what the Open Responses specification asks of a response.
OURS = {"reasoning_content", "presence_penalty", "frequency_penalty", "store", "namespace"}
OURS |= {"token_ids", "prompt_token_ids", "prompt_logprobs"}


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


WHOLE: dict[str, Any] = {
    "/v1/chat/completions": ChatCompletion,
    "/v1/completions": Completion,
    "/v1/responses": Response,
    "/v1/messages": Message,
}
EVENTS: dict[str, Any] = {
    "/v1/chat/completions": ChatCompletionChunk,
    "/v1/completions": Completion,
    "/v1/responses": ResponseStreamEvent,
    "/v1/messages": RawMessageStreamEvent,
}


class CheckedClient(httpx.AsyncClient):
    """Fails a test whose gateway says something that the types do not know, or leaves something out."""

    async def send(self, request: httpx.Request, *, stream: bool = False, **more: Any) -> httpx.Response:
        response = await super().send(request, stream=stream, **more)
        if not stream and request.method == "POST" and response.status_code == 200:
            check(request.url.path, response)
        return response


def check(path: str, response: httpx.Response) -> None:
    """Checks one whole answer, or every event of one."""
    if path not in WHOLE:
        return
    if "text/event-stream" not in response.headers["content-type"]:
        strictly(WHOLE[path], _as_typed(response.json()))
        return
    for data in events(response.text):
        if "error" not in data or data.get("type"):
            strictly(EVENTS[path], _as_typed(data))


def _as_typed(data: dict[str, Any]) -> dict[str, Any]:
    """Returns an answer in which what OpenAI says, and its own types leave out, is as the types have it: streamed
    completions that go on, the first token of an echo, streamed calls of custom tools."""
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


def events(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))
