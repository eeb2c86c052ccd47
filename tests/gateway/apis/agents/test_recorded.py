"""Requests as agents really sent them, recorded (`tests/clients/recorded`, long texts cut, personal details replaced):
each is answered, and the model sees what it needs to."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.common.job import ChatPrompt
from tests.gateway.scripted import ScriptedCluster, said

RECORDED = Path(__file__).parents[3] / "clients" / "recorded"
FILES = {path.stem: path for path in sorted(RECORDED.rglob("*.json"))}
IMAGE = "[image left out: this model reads text only]"


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILES[name].read_text())
    found["body"]["model"] = "smollm2-135m-instruct"
    return found


async def replay(http: httpx.AsyncClient, name: str) -> httpx.Response:
    request = recorded(name)
    return await http.post(request["path"], json=request["body"], headers=request["headers"])


def prompt(cluster: ScriptedCluster) -> ChatPrompt:
    found = cluster.queue.requests[-1].input
    assert isinstance(found, ChatPrompt)
    return found


def roles(cluster: ScriptedCluster) -> list[str]:
    return [message["role"] for message in prompt(cluster).messages]


def tools(cluster: ScriptedCluster) -> list[str]:
    return [tool["function"]["name"] for tool in prompt(cluster).tools]


@pytest.mark.parametrize("name", FILES)
async def test_every_recorded_request_is_answered(http: httpx.AsyncClient, cluster: ScriptedCluster, name: str) -> None:
    cluster.queue.script = lambda request: said('{"title": "Mill"}' if request.guide else "Done.")
    answer = await replay(http, name)
    assert answer.status_code == 200, answer.text
    assert "Done." in answer.text or "Mill" in answer.text
    assert "error" not in [
        json.loads(line[6:]).get("type") for line in answer.text.splitlines() if line[:7] == "data: {"
    ]
    shown = json.dumps(prompt(cluster).messages)
    assert "billing" not in shown and "base64," not in shown


def test_somebody_was_recorded() -> None:
    clients = {recorded(name)["client"] for name in FILES}
    agents = {"aider", "Claude Code", "Cline", "Codex CLI", "Continue", "opencode", "Qwen Code"}
    assert clients == {*agents, "Open WebUI"}


async def test_codex(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    first = await replay(http, "codex_first")
    assert first.headers["x-millstream-tools-left-out"] == "web_search"
    assert roles(cluster) == ["developer", "developer", "user", "user"]
    assert {"exec_command", "mcp__mill__grind", "multi_agent_v1__spawn_agent"} <= set(tools(cluster))
    await replay(http, "codex_tools")
    messages = prompt(cluster).messages
    calls = [call["function"]["name"] for message in messages for call in message.get("tool_calls", [])]
    assert calls == ["mcp__mill__grind", "exec_command", "view_image"]
    assert [message["content"] for message in messages][-1] == IMAGE and roles(cluster)[-3:] == [
        "tool",
        "assistant",
        "tool",
    ]
    await replay(http, "codex_resumed")
    assert roles(cluster)[-2:] == ["assistant", "user"]
    await replay(http, "codex_compaction")
    assert tools(cluster) == [] and "tool" in roles(cluster)


async def test_claude_code(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    await replay(http, "claude_code_first")
    assert roles(cluster) == ["system", "user", "system"]
    assert {"Bash", "Edit", "Read", "mcp__mill__grind"} <= set(tools(cluster))
    assert prompt(cluster).messages[0]["content"].startswith("You are a Claude agent")
    await replay(http, "claude_code_tools")
    assert roles(cluster) == ["system", "user", "system", "assistant", "tool", "tool", "assistant", "tool", "tool"]
    assert prompt(cluster).messages[-1]["content"] == IMAGE
    assert prompt(cluster).messages[3]["reasoning_content"] == "I look."
    await replay(http, "claude_code_continued")
    assert roles(cluster)[-2:] == ["assistant", "user"]
    await replay(http, "claude_code_title")
    guide = cluster.queue.requests[-1].guide
    assert guide is not None and guide.kind == "json_schema"


async def test_the_agents_of_chat_completions(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    offered = {"opencode": "mill_grind", "qwen_code": "read_file", "continue": "grind", "cline": "mill__grind"}
    for name, tool in ((f"{agent}_tools", tool) for agent, tool in offered.items()):
        await replay(http, name)
        assert tool in tools(cluster) and roles(cluster)[-2:] == ["assistant", "tool"]


async def test_aider(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    """It asks for files and for the messages of commits, without tools."""
    await replay(http, "aider_edit")
    assert roles(cluster) == ["system", *["user", "assistant"] * 7, "user"]
    answer = await replay(http, "aider_commit")
    assert roles(cluster) == ["system", "user"] and answer.json()["object"] == "chat.completion"


async def test_open_webui(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    """A chat with its own tools through both APIs, an answer that is continued, and its requests beside a chat."""
    answer = await replay(http, "open_webui_chat")
    assert roles(cluster) == ["user", "assistant", "tool", "tool", "assistant", "user"] and len(tools(cluster)) == 28
    assert answer.headers["content-type"].startswith("text/event-stream")
    answer = await replay(http, "open_webui_responses")
    assert roles(cluster) == ["system", "user", "assistant", "tool", "tool"] and len(tools(cluster)) == 28
    await replay(http, "open_webui_continued")
    assert roles(cluster) == ["user", "assistant"]
    for name, bound in (("open_webui_title", 1000), ("open_webui_follow_ups", None)):
        await replay(http, name)
        assert roles(cluster) == ["user"] and cluster.queue.requests[-1].sampling.max_tokens == bound
