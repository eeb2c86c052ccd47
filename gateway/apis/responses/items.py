"""Turns the Responses API's items into chat messages, and into the items as they are listed again."""

import base64
import binascii
from typing import Any

from millstream.gateway.apis.responses.shape import ResponseItem
from millstream.gateway.apis.shared.read.messages import ChatMessage, missing, text, unsupported
from millstream.gateway.errors.table import FieldError


def item_messages(items: list[ResponseItem], path: str) -> list[ChatMessage]:
    """Returns the items as chat messages. A thought of the model goes with what it said next; calls made in one turn
    become one message, as templates expect. Raises `BadRequest` naming the item at fault."""
    messages: list[ChatMessage] = []
    thought = ""
    for index, item in enumerate(items):
        here = f"{path}[{index}]"
        match item.type:
            case "message":
                messages.append(_message(item, here, thought))
            case "function_call":
                _add_call(messages, item, here, thought)
            case "function_call_output":
                messages.append(_output(item, here))
            case "reasoning":
                thought = _thought(item, here)
                continue
            case other:
                raise unsupported(f"{here}.type", f"items of the type '{other}' are not known here")
        thought = ""
    return messages


def _message(item: ResponseItem, path: str, thought: str) -> ChatMessage:
    if item.role is None:
        raise missing(f"{path}.role")
    if item.content is None:
        raise missing(f"{path}.content")
    message: ChatMessage = {"role": item.role, "content": text(item.content, f"{path}.content")}
    return message | {"reasoning_content": thought} if thought and item.role == "assistant" else message


def _add_call(messages: list[ChatMessage], item: ResponseItem, path: str, thought: str) -> None:
    for name in ("call_id", "name"):
        if getattr(item, name) is None:
            raise missing(f"{path}.{name}")
    function = {"name": item.name, "arguments": item.arguments or "{}"}
    call = {"id": item.call_id, "type": "function", "function": function}
    if messages and messages[-1]["role"] == "assistant":
        messages[-1].setdefault("tool_calls", []).append(call)
        return
    message: ChatMessage = {"role": "assistant", "content": None, "tool_calls": [call]}
    messages.append(message | {"reasoning_content": thought} if thought else message)


def _output(item: ResponseItem, path: str) -> ChatMessage:
    if item.call_id is None:
        raise missing(f"{path}.call_id")
    if item.output is None:
        raise missing(f"{path}.output")
    return {"role": "tool", "tool_call_id": item.call_id, "content": text(item.output, f"{path}.output")}


def _thought(item: ResponseItem, path: str) -> str:
    """Returns the thought, from our own `encrypted_content` or the item's plain content."""
    if item.encrypted_content is not None:
        return unsealed(item.encrypted_content, path)
    return text(item.content, f"{path}.content") if not isinstance(item.content, list) else _plain(item)


def _plain(item: ResponseItem) -> str:
    parts = item.content if isinstance(item.content, list) else []
    return "".join(part.text or "" for part in parts)


def sealed(thought: str) -> str:
    """Returns the model's thought for a client that keeps its own conversation. It is encoded, not secret: the client
    may see an open model's thoughts anyway."""
    return base64.b64encode(thought.encode()).decode()


def unsealed(value: str, path: str) -> str:
    """Returns the thought that `sealed` encoded. Raises `BadRequest` for what `sealed` did not make."""
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        message = f"Invalid '{path}.encrypted_content': it was not made here."
        raise FieldError(message, param=f"{path}.encrypted_content", wire_code="invalid_value") from error


def listed_items(items: list[ResponseItem], identity: str) -> list[dict[str, Any]]:
    """Returns the input as `input_items` lists it: every item with an id and its content in parts."""
    return [_listed(item, f"{identity}{index:03x}") for index, item in enumerate(items)]


def _listed(item: ResponseItem, digits: str) -> dict[str, Any]:
    match item.type:
        case "message":
            kind = "output_text" if item.role == "assistant" else "input_text"
            part: dict[str, Any] = {"type": kind, "text": text(item.content, "content")}
            part |= {"annotations": []} if kind == "output_text" else {}
            base = {"id": item.id or f"msg_{digits}", "type": "message", "role": item.role, "status": "completed"}
            return base | {"content": [part]}
        case "function_call":
            return {
                "id": item.id or f"fc_{digits}",
                "type": "function_call",
                "call_id": item.call_id,
                "name": item.name,
                "arguments": item.arguments or "{}",
                "status": "completed",
            }
        case "function_call_output":
            output = text(item.output, "output")
            base = {"id": item.id or f"fco_{digits}", "type": item.type, "call_id": item.call_id}
            return base | {"output": output, "status": "completed"}
        case _:
            thought = _thought(item, "reasoning")
            content = [{"type": "reasoning_text", "text": thought}]
            return {"id": item.id or f"rs_{digits}", "type": "reasoning", "summary": [], "content": content}
