"""Message orders as agents send them, in the shape in which the gateway hands them on. No text occurs twice."""

from typing import Any

from millstream.worker.text.message_order import Conversation


def say(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def call(content: str, *calls: tuple[str, str]) -> dict[str, Any]:
    """A turn of the assistant with calls of `look`: an identity and what to look for, for each."""
    made = [
        {"id": id, "type": "function", "function": {"name": "look", "arguments": f'{{"key": "{key}"}}'}}
        for id, key in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": made}


def result(id: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content}


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"key": {"type": "string"}}}},
}

ORDERS: dict[str, Conversation] = {
    "a question": [say("user", "U1")],
    "Claude Code's first request": [say("system", "S1"), say("user", "U1"), say("system", "S2")],
    "Claude Code without a system prompt": [say("user", "U1"), say("system", "S1")],
    "Claude Code after two tools at once": [
        *(say("system", "S1"), say("user", "U1"), say("system", "S2")),
        call("A1", ("toolu_01AbCdEfGhIjKlMnOpQrStUv", "K1"), ("toolu_02AbCdEfGhIjKlMnOpQrStUv", "K2")),
        *(result("toolu_01AbCdEfGhIjKlMnOpQrStUv", "R1"), result("toolu_02AbCdEfGhIjKlMnOpQrStUv", "R2")),
        *(say("user", "U2"), say("system", "S3"), say("assistant", "A2"), say("user", "U3"), say("system", "S4")),
    ],
    "Codex' first request": [say("developer", "S1"), say("developer", "S2"), say("user", "U1"), say("user", "U2")],
    "Codex after a tool": [
        *(say("developer", "S1"), say("developer", "S2"), say("user", "U1"), say("user", "U2")),
        *(call("", ("call_a1b2c3d4e5f6a1b2c3d4e5f6", "K1")), result("call_a1b2c3d4e5f6a1b2c3d4e5f6", "R1")),
        *(say("assistant", "A1"), call("", ("call_ffffc3d4e5f6a1b2c3d4e5f6", "K2"))),
        *(result("call_ffffc3d4e5f6a1b2c3d4e5f6", "R2"), say("developer", "S3"), say("user", "U3")),
    ],
    "opencode after tools": [
        *(say("system", "S1"), say("system", "S2"), say("user", "U1")),
        *(call("", ("c1", "K1")), result("c1", "R1"), call("A1", ("c2", "K2")), result("c2", "R2")),
        *(say("assistant", "A2"), say("user", "U2")),
    ],
    "Cline, with its tools in words": [
        *(say("system", "S1"), say("user", "U1"), say("user", "U2"), say("assistant", "A1")),
        *(say("user", "U3"), say("user", "U4"), say("assistant", "A2"), say("user", "U5")),
    ],
    "aider, with a reminder at the end": [
        *(say("system", "S1"), say("user", "U1"), say("assistant", "A1"), say("user", "U2"), say("system", "S2")),
    ],
    "an answer cut short": [say("user", "U1"), call("", ("c1", "K1")), result("c1", "R1"), say("user", "U2")],
    "a call without its result": [say("user", "U1"), call("A1", ("c1", "K1"), ("c2", "K2")), say("user", "U2")],
    "two answers in a row": [say("user", "U1"), say("assistant", "A1"), say("assistant", "A2"), say("user", "U2")],
    "a greeting first": [say("system", "S1"), say("assistant", "A1"), say("user", "U1")],
    "instructions alone": [say("system", "S1"), say("developer", "S2")],
}
