"""An MCP server over standard input and output, with one tool: it grinds corn."""

import json
import sys
from typing import Any

GRIND = {
    "name": "grind",
    "description": "Grinds corn.",
    "inputSchema": {"type": "object", "properties": {"corn": {"type": "integer"}}, "required": ["corn"]},
}


def answered(method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            server = {"name": "mill", "version": "1"}
            return {
                "protocolVersion": parameters["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": server,
            }
        case "tools/list":
            return {"tools": [GRIND]}
        case "tools/call":
            return {"content": [{"type": "text", "text": f"flour {parameters['arguments']['corn']}"}]}
        case _:
            return {}


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        result = answered(message["method"], message.get("params") or {})
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
