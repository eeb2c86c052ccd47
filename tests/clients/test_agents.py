"""Coding agents as their makers publish them, with their default settings and an MCP server of their own: they read and
edit a file, call tools at once, look at an image, go on later, and notice nothing of a worker that dies."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.agents import aider, call, claude, cline, codex, continue_cli, listing, opencode, qwen
from tests.clients.conftest import ServedSite, running, script, scripts

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """A cluster whose context has no room for the longest answer that Claude Code asks for at first."""
    worker = {"model": "simulated", "max_model_len": "100000"}
    with running(tmp_path_factory.mktemp("short"), {}, worker) as (url, model):
        yield ServedSite(url, model)


def edited(*reads: dict[str, Any], edit: dict[str, Any]) -> str:
    """Returns the script of three turns: calls at once, an edit, an end."""
    return scripts({"text": "I look.", "tool_calls": [*reads]}, {"tool_calls": [edit]}, {"text": "All done."})


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


def test_claude_code(scripted: ServedSite, project: Path) -> None:
    text, image = str(project / "b.txt"), str(project / "p.png")
    edit = call("Edit", file_path=text, old_string="two", new_string="three")
    turns = [
        {"reasoning": "Hm.", "tool_calls": [call("mcp__mill__grind", corn=3), call("Read", file_path=text)]},
        {"tool_calls": [edit, call("Read", file_path=image)]},
        {"text": "All done."},
    ]
    assert "All done." in claude(scripted, project, scripts(*turns))
    assert (project / "b.txt").read_text() == "one\nthree\n"
    assert "Resumed." in claude(scripted, project, "--continue", scripts({"text": "Resumed."}))


def test_claude_code_in_a_context_without_room_for_its_longest_answer(short: ServedSite, project: Path) -> None:
    assert "Short." in claude(short, project, scripts({"text": "Short."}))


def test_opencode(scripted: ServedSite, project: Path) -> None:
    text = str(project / "b.txt")
    read, edit = call("read", filePath=text), call("edit", filePath=text, oldString="two", newString="three")
    assert "All done." in opencode(scripted, project, edited(call("mill_grind", corn=3), read, edit=edit))
    assert (project / "b.txt").read_text() == "one\nthree\n"


def test_qwen_code(scripted: ServedSite, project: Path) -> None:
    text = str(project / "b.txt")
    read, edit = call("read_file", file_path=text), call("edit", file_path=text, old_string="two", new_string="three")
    assert "All done." in qwen(scripted, project, edited(call("mcp__mill__grind", corn=3), read, edit=edit))
    assert (project / "b.txt").read_text() == "one\nthree\n"
    assert "Resumed." in qwen(scripted, project, scripts({"text": "Resumed."}), "--continue")


@pytest.mark.parametrize("stream", [True, False])
def test_aider(scripted: ServedSite, project: Path, stream: bool) -> None:
    """It knows no tools: the answer is the file as it is to be, and is committed."""
    messages = [script(text="Hello."), *(script(text=listing(word)) for word in ("three", "four"))]
    said = aider(scripted, project, *messages, stream=stream)
    assert "Hello." in said and said.count("Applied edit to b.txt") == 2
    assert (project / "b.txt").read_text() == "one\nfour\n"


def test_continue(scripted: ServedSite, project: Path) -> None:
    text = str(project / "b.txt")
    read, edit = call("Read", filepath=text), call("Edit", file_path=text, old_string="two", new_string="three")
    assert "All done." in continue_cli(scripted, project, edited(call("grind", corn=3), read, edit=edit))
    assert (project / "b.txt").read_text() == "one\nthree\n"
    assert "Resumed." in continue_cli(scripted, project, "--resume", scripts({"text": "Resumed."}))


def test_cline(scripted: ServedSite, project: Path) -> None:
    text = str(project / "b.txt")
    read, edit = call("read_files", files=[{"path": text}]), call("editor", path=text, old_text="two", new_text="three")
    assert "All done." in cline(scripted, project, edited(call("mill__grind", corn=3), read, edit=edit))
    assert (project / "b.txt").read_text() == "one\nthree\n"


AGENTS = [codex, claude, opencode, qwen, aider, continue_cli, cline]


@pytest.mark.parametrize("agent", AGENTS, ids=[agent.__name__ for agent in AGENTS])
def test_an_agent_notices_nothing_of_a_worker_that_dies(mortal: ServedSite, project: Path, agent: Any) -> None:
    said = script(text="It goes on to its end.", crash="once", after=9)
    assert "It goes on to its end." in agent(mortal, project, said)
