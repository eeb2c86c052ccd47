"""Items of conversations that began on another server. What a client ran itself stays a call with its answer, so that
the model knows what was done; what only that server could run, or read, is left out."""

import json
from typing import Any, cast

from millstream.gateway.apis.responses.shape import ForeignItem
from millstream.gateway.apis.shared.read.messages import left_out_text

# The items of calls that the client ran, and the fields in which they say what was to be done.
RUN_BY_CLIENTS = {
    "computer_call": "action",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
}
OUTPUT = "_output"  # ends the types of their answers


def foreign_call(item: ForeignItem) -> dict[str, Any] | None:
    """Returns a foreign item's call as a chat has it; None for one that is no call of the client's."""
    identity = item.fields.get("call_id")
    if item.type == "mcp_call":
        label, name = item.fields.get("server_label"), item.fields.get("name")
        return _call(item.id, f"mcp__{label}__{name}", str(item.fields.get("arguments") or "{}"))
    if item.type not in RUN_BY_CLIENTS:
        return None
    arguments = json.dumps(item.fields.get(RUN_BY_CLIENTS[item.type]) or {}, ensure_ascii=False)
    return _call(identity or item.id, item.type.removesuffix("_call"), arguments)


def foreign_answer(item: ForeignItem) -> dict[str, Any] | None:
    """Returns what such a call came back with, as a tool's message; None for an item that tells of no answer."""
    if item.type == "mcp_call":
        said = item.fields.get("output") or item.fields.get("error")
        return {"role": "tool", "tool_call_id": item.id or "", "content": _text(said)}
    if not item.type.endswith(OUTPUT) or item.type.removesuffix(OUTPUT) not in RUN_BY_CLIENTS:
        return None
    identity = item.fields.get("call_id") or item.id or ""
    return {"role": "tool", "tool_call_id": str(identity), "content": _text(item.fields.get("output"))}


def _call(identity: object, name: str, arguments: str) -> dict[str, Any]:
    return {"id": str(identity or ""), "type": "function", "function": {"name": name, "arguments": arguments}}


def _text(output: object) -> str:
    if output is None or isinstance(output, str):
        return output or ""
    if isinstance(output, dict) and cast(dict[str, object], output).get("type") == "computer_screenshot":
        return left_out_text("image")
    return json.dumps(output, ensure_ascii=False)
