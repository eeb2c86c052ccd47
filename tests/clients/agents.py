"""Coding agents as their makers publish them. Each function runs one in a folder until it ends, with its default
settings and an MCP server of its own (aider knows none), and returns what it printed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.clients.conftest import ServedSite
from tests.clients.test_others import ENVIRONMENT, PROGRAMS

MCP = [sys.executable, str(PROGRAMS / "mill_mcp.py")]
NODE = ENVIRONMENT / "node_modules" / ".bin"
AIDER = ENVIRONMENT / "aider" / "bin" / "aider"


def run(folder: Path, program: Path, *arguments: str, said: str = "", **environment: str) -> str:
    """Returns what an agent printed in this folder, `said` at its standard input. Its exit status must be 0."""
    own = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder.parent), **environment}
    command = [str(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=own, cwd=folder, input=said)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def servers() -> str:
    """Returns the description of the MCP server that most agents read."""
    return json.dumps({"mcpServers": {"mill": {"command": MCP[0], "args": MCP[1:]}}})


def codex(site: ServedSite, folder: Path, *arguments: str) -> str:
    home = folder.parent / ".codex"
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        f'model = "{site.model}"\nmodel_provider = "mill"\n'
        f'[model_providers.mill]\nname = "mill"\nbase_url = "{site.base_url}"\nwire_api = "responses"\n'
        f'[mcp_servers.mill]\ncommand = "{MCP[0]}"\nargs = ["{MCP[1]}"]\n'
    )
    always = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
    return run(folder, NODE / "codex", "exec", *always, *arguments)


def claude(site: ServedSite, folder: Path, *arguments: str) -> str:
    described = folder.parent / "mcp.json"
    described.write_text(servers())
    models = dict.fromkeys(("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL"), site.model)
    environment = {"ANTHROPIC_BASE_URL": site.url, "ANTHROPIC_API_KEY": "none", "IS_SANDBOX": "1", **models}
    always = ("--mcp-config", str(described), "--dangerously-skip-permissions", "-p")
    return run(folder, NODE / "claude", *always, *arguments, **environment)


def opencode(site: ServedSite, folder: Path, message: str, *options: str) -> str:
    served = {"name": "mill", "tool_call": True, "limit": {"context": 131072, "output": 8192}}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "mill",
        "options": {"baseURL": site.base_url, "apiKey": "none"},
        "models": {site.model: served},
    }
    mcp = {"mill": {"type": "local", "command": MCP, "enabled": True}}
    (folder / "opencode.json").write_text(json.dumps({"provider": {"mill": provider}, "mcp": mcp}))
    turns = json.dumps(json.loads(message.removeprefix("script:")), separators=(",", ":"))
    without_blanks = "script:" + turns.replace(" ", "\\u0020")  # what holds a blank it puts into quotation marks
    return run(folder, NODE / "opencode", "run", "-m", f"mill/{site.model}", *options, without_blanks)


def qwen(site: ServedSite, folder: Path, message: str, *options: str) -> str:
    settings = folder.parent / ".qwen" / "settings.json"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(servers())
    environment = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": site.base_url, "OPENAI_MODEL": site.model}
    return run(folder, NODE / "qwen", "--auth-type", "openai", "--yolo", *options, "-p", message, **environment)


def aider(site: ServedSite, folder: Path, *messages: str, stream: bool = True) -> str:
    """Says one message after the other, about the file `b.txt`."""
    environment = {"OPENAI_API_BASE": site.base_url, "OPENAI_API_KEY": "none"}
    options = ("--model", f"openai/{site.model}", "--yes-always", "--stream" if stream else "--no-stream", "b.txt")
    return run(folder, AIDER, *options, said="\n".join([*messages, "/exit", ""]), **environment)


def listing(word: str) -> str:
    """Returns the answer in which aider finds the file `b.txt` with this word in its second line."""
    return f"I edit.\n\nb.txt\n```\none\n{word}\n```\n"


def continue_cli(site: ServedSite, folder: Path, *arguments: str) -> str:
    model = {"name": "mill", "provider": "openai", "model": site.model, "apiBase": site.base_url, "apiKey": "none"}
    mcp = {"name": "mill", "command": MCP[0], "args": MCP[1:]}
    config = {"name": "mill", "version": "1.0.0", "schema": "v1", "models": [model], "mcpServers": [mcp]}
    described = folder.parent / "continue.yaml"
    described.write_text(json.dumps(config))
    return run(folder, NODE / "cn", "--config", str(described), "--auto", "-p", *arguments)


def cline(site: ServedSite, folder: Path, message: str) -> str:
    data = folder.parent / "cline"
    (data / "settings").mkdir(parents=True, exist_ok=True)
    (data / "settings" / "cline_mcp_settings.json").write_text(servers())
    own = ("--data-dir", str(data))  # without it, a process of Cline's outlives the run
    access = ("-p", "openai", "-k", "none", "-m", site.model, "-b", site.base_url)
    run(folder, NODE / "cline", "auth", *access, *own)
    return run(folder, NODE / "cline", *own, message)
