"""The programs in examples/, run as a reader of examples/README.md runs them: against `millstream up`."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.story.terminal import PATIENCE, up

EXAMPLES = Path(__file__).parents[2] / "examples"
INTERPRETERS = {".py": sys.executable, ".mjs": shutil.which("node")}
CUT = re.compile(r"going on after (chatcmpl-\w+):(\d+)")
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of the simulated engine, which says what a question that is a script tells it to say."""
    with up(tmp_path_factory.mktemp("home"), "--engine", "simulated") as terminal:
        yield terminal.find(r"address +(\S+)")


def run(program: str, address: str, *questions: str, model: str = "simulated") -> tuple[str, str]:
    """Returns what it printed, and what it told beside it. It must end well."""
    path = EXAMPLES / program
    interpreter = INTERPRETERS[path.suffix]
    if interpreter is None:
        pytest.skip("node is not installed")
    environment = {**os.environ, "OPENAI_BASE_URL": address, "MODEL": model}
    command = [interpreter, str(path), *questions]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def script(*turns: dict[str, Any]) -> str:
    """A question that makes the simulated engine say this, one script for each of its turns."""
    return f"script: {json.dumps(turns)}"


def test_every_example_is_explained_and_tried() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in INTERPRETERS}
    assert names == set(re.findall(r"\b[a-z_]+\.(?:py|mjs)\b", (EXAMPLES / "README.md").read_text()))
    assert names == set(re.findall(r'"([a-z_]+\.(?:py|mjs))"', Path(__file__).read_text()))


def test_openai_chat_prints_the_answer_whole_and_streamed(address: str) -> None:
    assert run("openai_chat.py", address, script({"text": "Paris."}))[0] == "Paris.\nParis.\n"


@pytest.mark.parametrize("program", ["resumable_stream.py", "resumable_stream.mjs"])
def test_a_stream_cut_again_and_again_is_the_whole_answer(address: str, program: str) -> None:
    said = "one two three four five six seven eight nine ten"
    printed, told = run(program, address, script({"text": said, "rate": 50}))
    assert printed == f"{said}\n"
    cuts = CUT.findall(told)
    assert len({request for request, _ in cuts}) == 1  # one answer over all connections
    numbers = [int(number) for _, number in cuts]
    assert numbers and numbers == sorted(set(numbers))


def test_batch_prints_each_answer_and_each_error(address: str) -> None:
    error = {"error": {"message": "no such mill"}}
    printed, told = run("batch.py", address, script({"text": "Paris."}), script(error), script({"text": "Rome."}))
    answers = dict(line.split(" ", 1) for line in printed.splitlines())
    assert (answers["q0"], answers["q2"]) == ("Paris.", "Rome.")
    assert "no such mill" in answers["q1"]
    assert told.startswith("completed")


def test_an_agent_calls_its_tools_and_tells_the_answer(address: str) -> None:
    calls = [{"name": "temperature", "arguments": {"city": city}} for city in ("Graz", "Oslo")]
    wrong = [{"name": "temperature", "arguments": {"town": "Graz"}}, {"name": "humidity"}]
    turns = ({"tool_calls": wrong}, {"tool_calls": calls}, {"text": "Graz."})
    printed, told = run("agent_loop.py", address, script(*turns))
    assert printed == "Graz.\n"
    assert "= 21 °C]" in told and "= 12 °C]" in told
    assert told.count("= error: ") == len(wrong)


@pytest.mark.model
def test_retrieval_answers_from_the_text_that_fits(tmp_path: Path) -> None:
    settings = {"MILLSTREAM_EMBEDDING_MODEL": "all-minilm-l6-v2", "MILLSTREAM_MAX_MODEL_LEN": "2048"}
    with up(tmp_path, **settings) as terminal:
        printed, told = run("retrieval.py", terminal.find(r"address +(\S+)"), model="smollm2-135m-instruct")
    assert told == "[Parking in the old town costs two euros an hour.]\n"
    assert "2 euros" in printed or "two euros" in printed
