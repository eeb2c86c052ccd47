"""Items as they are listed again: every one with an id and a status, a message with its content in parts."""

from typing import Any

from millstream.gateway.apis.responses.input.items import Item, thought_of
from millstream.gateway.apis.responses.shape import ForeignItem, ResponseItem
from millstream.gateway.apis.shared.read.messages import INPUT_IMAGE, source_of, text, tool_text

PREFIXES = {
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "compaction": "cmp",
}


def listed_items(items: list[Item], identity: str) -> list[dict[str, Any]]:
    """Returns the input as `input_items` lists it. `identity`: the digits with which made-up ids begin."""
    return [_listed(item, f"{identity}{index:03x}") for index, item in enumerate(items)]


def _listed(item: Item, digits: str) -> dict[str, Any]:
    if isinstance(item, ForeignItem):
        return {"id": item.id or f"it_{digits}", **item.model_dump(exclude={"id"}, exclude_unset=True)}
    match item.type:
        case "message":
            return _message(item, digits)
        case "reasoning":
            content = [{"type": "reasoning_text", "text": thought_of(item, "reasoning")}]
            return {"id": item.id or f"rs_{digits}", "type": "reasoning", "summary": [], "content": content}
        case kind:
            given = item.model_dump(exclude={"id", "type"}, exclude_none=True)
            given |= {"arguments": item.arguments or "{}"} if kind == "function_call" else {}
            given |= {"output": tool_text(item.output, "output")} if item.output is not None else {}
            status = {} if kind == "compaction" else {"status": "completed"}
            return {"id": item.id or f"{PREFIXES.get(kind, 'it')}_{digits}", "type": kind, **given, **status}


def _message(item: ResponseItem, digits: str) -> dict[str, Any]:
    kind = "output_text" if item.role == "assistant" else "input_text"
    noted: dict[str, Any] = {"annotations": []} if kind == "output_text" else {}
    content = [part | noted for part in _parts(item, kind)]
    base = {"id": item.id or f"msg_{digits}", "type": "message", "role": item.role, "status": "completed"}
    attached = {} if item.attached is None else {"attached": item.attached}
    return base | {"content": content} | attached


def _parts(item: ResponseItem, kind: str) -> list[dict[str, Any]]:
    """Returns a message's parts: all its text as one, but for images, which stand where they stood."""
    if not isinstance(item.content, list) or all(part.type != INPUT_IMAGE for part in item.content):
        return [{"type": kind, "text": text(item.content, "content")}]
    return [
        {"type": INPUT_IMAGE, "detail": source_of(part).detail or "auto", "image_url": source_of(part).url}
        if part.type == INPUT_IMAGE
        else {"type": kind, "text": text([part], "content")}
        for part in item.content
    ]
