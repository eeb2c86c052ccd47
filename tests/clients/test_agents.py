"""Coding agents as their makers publish them, with their default settings and an MCP server of their own: they read and
edit a file, call tools at once, look at an image, go on later, and notice nothing of a worker that dies."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import ServedSite, running, scripts
from tests.clients.test_others import ENVIRONMENT, PROGRAMS

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MCP = [sys.executable, str(PROGRAMS / "mill_mcp.py")]
BIN = ENVIRONMENT / "node_modules" / ".bin"
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """A cluster whose context has no room for the longest answer that Claude Code asks for at first."""
    worker = {"model": "simulated", "max_model_len": "100000"}
    with running(tmp_path_factory.mktemp("short"), {}, worker) as (url, model):
        yield ServedSite(url, model)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a file of two lines and an image."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "b.txt").write_text("one\ntwo\n")
    (folder / "p.png").write_bytes(base64.b64decode(PIXEL))
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def run(folder: Path, *command: str, **environment: str) -> str:
    """Returns what an agent printed in this folder. Its exit status must be 0."""
    own = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder.parent), **environment}
    program = [str(BIN / command[0]), *command[1:]]
    done = subprocess.run(
        program, capture_output=True, text=True, timeout=200, env=own, cwd=folder, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def codex(site: ServedSite, folder: Path, *arguments: str) -> str:
    home = folder.parent / ".codex"
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        f'model = "{site.model}"\nmodel_provider = "mill"\n'
        f'[model_providers.mill]\nname = "mill"\nbase_url = "{site.base_url}"\nwire_api = "responses"\n'
        f'[mcp_servers.mill]\ncommand = "{MCP[0]}"\nargs = ["{MCP[1]}"]\n'
    )
    always = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
    return run(folder, "codex", "exec", *always, *arguments)


def test_codex(scripted: ServedSite, project: Path) -> None:
    edit = "printf 'one\\nthree\\n' > b.txt"
    turns = [
        {"text": "I look.", "tool_calls": [call("mcp__mill__grind", corn=3), call("exec_command", cmd="cat b.txt")]},
        {"tool_calls": [call("exec_command", cmd=edit), call("view_image", path=str(project / "p.png"))]},
        {"text": "All done."},
    ]
    assert "All done." in codex(scripted, project, scripts(*turns))
    assert (project / "b.txt").read_text() == "one\nthree\n"
    assert "Resumed." in codex(scripted, project, "resume", "--last", scripts({"text": "Resumed."}))


def test_codex_makes_its_conversation_short(scripted: ServedSite, project: Path) -> None:
    turns = [{"tool_calls": [call("exec_command", cmd="cat b.txt")]}, {"text": "All done."}]
    limit = ("-c", "model_auto_compact_token_limit=20000")
    assert codex(scripted, project, *limit, scripts(*turns))


def claude(site: ServedSite, folder: Path, *arguments: str) -> str:
    servers = folder.parent / "mcp.json"
    servers.write_text(json.dumps({"mcpServers": {"mill": {"command": MCP[0], "args": MCP[1:]}}}))
    models = dict.fromkeys(("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL"), site.model)
    environment = {"ANTHROPIC_BASE_URL": site.url, "ANTHROPIC_API_KEY": "none", "IS_SANDBOX": "1", **models}
    always = ("--mcp-config", str(servers), "--dangerously-skip-permissions")
    return run(folder, "claude", *always, *arguments, **environment)


def test_claude_code(scripted: ServedSite, project: Path) -> None:
    text, image = str(project / "b.txt"), str(project / "p.png")
    edit = call("Edit", file_path=text, old_string="two", new_string="three")
    turns = [
        {"reasoning": "Hm.", "tool_calls": [call("mcp__mill__grind", corn=3), call("Read", file_path=text)]},
        {"tool_calls": [edit, call("Read", file_path=image)]},
        {"text": "All done."},
    ]
    assert "All done." in claude(scripted, project, "-p", scripts(*turns))
    assert (project / "b.txt").read_text() == "one\nthree\n"
    assert "Resumed." in claude(scripted, project, "--continue", "-p", scripts({"text": "Resumed."}))


def test_claude_code_in_a_context_without_room_for_its_longest_answer(short: ServedSite, project: Path) -> None:
    assert "Short." in claude(short, project, "-p", scripts({"text": "Short."}))


def test_opencode(scripted: ServedSite, project: Path) -> None:
    served = {"name": "mill", "tool_call": True, "limit": {"context": 131072, "output": 8192}}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "mill",
        "options": {"baseURL": scripted.base_url, "apiKey": "none"},
        "models": {scripted.model: served},
    }
    servers = {"mill": {"type": "local", "command": MCP, "enabled": True}}
    (project / "opencode.json").write_text(json.dumps({"provider": {"mill": provider}, "mcp": servers}))
    text = str(project / "b.txt")
    turns = [
        {"text": "Look.", "tool_calls": [call("mill_grind", corn=3), call("read", filePath=text)]},
        {"tool_calls": [call("edit", filePath=text, oldString="two", newString="three")]},
        {"text": "Done."},
    ]
    message = scripts(*turns).replace(" ", "")  # what holds a blank it puts into quotation marks
    assert "Done." in run(project, "opencode", "run", "-m", f"mill/{scripted.model}", message)
    assert (project / "b.txt").read_text() == "one\nthree\n"


def test_qwen_code(scripted: ServedSite, project: Path) -> None:
    text = str(project / "b.txt")
    turns = [
        {"text": "I look.", "tool_calls": [call("read_file", file_path=text)]},
        {"tool_calls": [call("edit", file_path=text, old_string="two", new_string="three")]},
        {"text": "All done."},
    ]
    environment = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": scripted.base_url, "OPENAI_MODEL": scripted.model}
    said = run(project, "qwen", "--auth-type", "openai", "--yolo", "-p", scripts(*turns), **environment)
    assert "All done." in said and (project / "b.txt").read_text() == "one\nthree\n"


@pytest.mark.parametrize("agent", [codex, claude], ids=["codex", "claude"])
def test_an_agent_notices_nothing_of_a_worker_that_dies(project: Path, tmp_path: Path, agent: Any) -> None:
    worker = {"model": "simulated", "supervise": "true"}
    with running(tmp_path, {}, worker) as (url, model):
        option = ("-p",) if agent is claude else ()
        said = scripts({"text": "It goes on to its end.", "crash": "once", "after": 9})
        assert "It goes on to its end." in agent(ServedSite(url, model), project, *option, said)
