"""Turns Ollama's messages into the chat's: calls get ids, by which a tool's answer finds its call."""

import json
from typing import Any

from millstream.gateway.apis.ollama.shape import OllamaMessage
from millstream.gateway.apis.shared.read.messages import ChatMessage, unsupported

OpenCalls = list[tuple[str, str]]  # the id and the function of each call that has no answer yet


def chat_messages(messages: list[OllamaMessage]) -> list[ChatMessage]:
    """Returns the messages as a chat has them. Raises `BadRequest` naming the message at fault."""
    open_calls: OpenCalls = []
    return [_message(message, f"messages[{index}]", open_calls) for index, message in enumerate(messages)]


def _message(message: OllamaMessage, path: str, open_calls: OpenCalls) -> ChatMessage:
    if message.images:
        raise unsupported(f"{path}.images", "the models here read text")
    said: ChatMessage = {"role": message.role, "content": message.content or ""}
    if message.role == "assistant" and message.thinking:
        said["reasoning_content"] = message.thinking
    if message.role == "assistant" and message.tool_calls:
        said["tool_calls"] = _calls(message, path, open_calls)
    if message.role == "tool":
        said["tool_call_id"] = _answered(message, path, open_calls)
        said |= {"name": message.tool_name} if message.tool_name else {}
    return said


def _calls(message: OllamaMessage, path: str, open_calls: OpenCalls) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    for index, call in enumerate(message.tool_calls or []):
        name, arguments = call.function.name, json.dumps(call.function.arguments, ensure_ascii=False)
        identity = call.id or f"{path}.tool_calls[{index}]"
        open_calls.append((identity, name))
        calls.append({"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}})
    return calls


def _answered(message: OllamaMessage, path: str, open_calls: OpenCalls) -> str:
    """Finds the call that a tool's message answers: the one it names, else the first open one of its function, else the
    first open one."""
    fits = [
        next((at for at, (identity, _) in enumerate(open_calls) if identity == message.tool_call_id), None),
        next((at for at, (_, name) in enumerate(open_calls) if name == message.tool_name), None),
        0 if open_calls else None,
    ]
    at = next((each for each in fits if each is not None), None)
    return message.tool_call_id or path if at is None else open_calls.pop(at)[0]
