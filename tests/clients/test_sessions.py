"""Sessions of coding agents that go on: resumed, with an image in them, and longer than the model's context."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.agents import call, claude, cline, codex, continue_cli, opencode, qwen
from tests.clients.conftest import ServedSite, running, scripts
from tests.clients.test_gateway_dies import Run

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

LOOKS: dict[str, tuple[Run, Callable[[str], dict[str, Any]]]] = {
    "opencode": (opencode, lambda path: call("read", filePath=path)),
    "qwen": (qwen, lambda path: call("read_file", file_path=path)),
    "continue": (continue_cli, lambda path: call("Read", filepath=path)),
    "cline": (cline, lambda path: call("read_files", files=[{"path": path}])),
}


@pytest.mark.parametrize("name", LOOKS)
def test_an_image_read_by_a_tool_ends_no_session(scripted: ServedSite, project: Path, name: str) -> None:
    """opencode and Cline ask on in a message of their own, for which there is no script: they only have to end well."""
    agent, look = LOOKS[name]
    turns = scripts({"tool_calls": [look(str(project / "p.png"))]}, {"text": "All seen."})
    said = agent(scripted, project, turns)
    assert "All seen." in said or (name in ("opencode", "cline") and said)


def test_opencode_goes_on(scripted: ServedSite, project: Path) -> None:
    assert "First." in opencode(scripted, project, scripts({"text": "First."}))
    assert "Resumed." in opencode(scripted, project, scripts({"text": "Resumed."}), "--continue")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """A cluster whose context has room for an agent's first prompt, and not for all that it reads afterwards."""
    worker = {"model": "simulated", "max_model_len": "131072"}
    with running(tmp_path_factory.mktemp("narrow"), {}, worker) as (url, model):
        yield ServedSite(url, model)


OVERFLOWS: dict[str, tuple[Run, Callable[[str], dict[str, Any]], str]] = {
    "claude": (claude, lambda path: call("Read", file_path=path), "Prompt is too long"),
    "opencode": (*LOOKS["opencode"], "maximum context length is 131072 tokens"),
    "qwen": (*LOOKS["qwen"], "maximum context length is 131072 tokens"),
    "continue": (*LOOKS["continue"], "Context length exceeded"),
}


def long_file(project: Path) -> str:
    path = project / "long.txt"
    path.write_text("".join(f"{n} and so on and so on and so on\n" for n in range(1500)))
    return str(path)


@pytest.mark.parametrize("name", OVERFLOWS)
def test_a_context_that_overflows_is_told_at_once_in_words_that_the_agent_knows(
    narrow: ServedSite, project: Path, name: str
) -> None:
    """A summary of the conversation would be as long: the agent can only say so."""
    agent, read, words = OVERFLOWS[name]
    reads = {"tool_calls": [read(long_file(project))]}
    with pytest.raises(AssertionError, match=words):
        agent(narrow, project, scripts(*[reads] * 5, {"text": "All read."}))


def test_codex_cuts_what_it_reads(narrow: ServedSite, project: Path) -> None:
    reads = {"tool_calls": [call("exec_command", cmd=f"cat {long_file(project)}")]}
    assert "All read." in codex(narrow, project, scripts(*[reads] * 5, {"text": "All read."}))
