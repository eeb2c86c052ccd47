"""Turns Ollama's messages into the chat's: calls get ids, by which a tool's answer finds its call."""

import json
from typing import Any

from millstream.gateway.apis.ollama.shape import OllamaMessage
from millstream.gateway.apis.shared.read.messages import ChatMessage, unsupported
from millstream.gateway.requests.vision import Vision

OpenCalls = list[tuple[str, str]]  # the id and the function of each call that has no answer yet


def chat_messages(messages: list[OllamaMessage], vision: Vision | None = None) -> list[ChatMessage]:
    """Returns the messages as a chat has them; images only with `vision`. Raises `BadRequest` naming the message at
    fault."""
    open_calls: OpenCalls = []
    return [_message(message, f"messages[{index}]", open_calls, vision) for index, message in enumerate(messages)]


def with_images(content: str, images: list[Any] | None, path: str, vision: Vision | None) -> str | list[dict[str, Any]]:
    """Returns what is said with the images shown beside it. Raises `BadRequest` for a model that reads none."""
    if not images:
        return content
    if vision is None:
        raise unsupported(path, "this model reads text only")
    urls = [vision.bare(str(image), f"{path}[{index}]") for index, image in enumerate(images)]
    return [{"type": "text", "text": content}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]


def _message(message: OllamaMessage, path: str, open_calls: OpenCalls, vision: Vision | None) -> ChatMessage:
    content = with_images(message.content or "", message.images, f"{path}.images", vision)
    said: ChatMessage = {"role": message.role, "content": content}
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
