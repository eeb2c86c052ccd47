"""Clients that are heavy to install, each a program of its own in `programs/`, run in an environment of their own:

make clients        # installs them into .clients/ and runs `pytest -m clients`
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream.worker.engines.model_files.sample_models import sample_chat_folder
from tests.clients.conftest import ServedSite, running

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
ENVIRONMENT = ROOT / ".clients"
PYTHON = ENVIRONMENT / "venv" / "bin" / "python"
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
}
pytestmark = pytest.mark.clients


def run(*command: str | Path, within: float = 100) -> str:
    """Returns what a client printed. Its exit status must be 0."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(ENVIRONMENT), **QUIET}
    done = subprocess.run(command, capture_output=True, text=True, timeout=within, env=environment, cwd=ENVIRONMENT)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize("client", ["langchain", "litellm", "instructor", "agents", "llama_index", "pydantic_ai"])
def test_python(client: str, scripted: ServedSite) -> None:
    run(PYTHON, PROGRAMS / f"{client}_client.py", scripted.base_url, scripted.model)


@pytest.mark.parametrize("client", ["openai_node", "ai_sdk"])
def test_node(client: str, scripted: ServedSite) -> None:
    node = shutil.which("node")
    assert node, "node is not on the PATH"
    program = ENVIRONMENT / f"{client}.mjs"  # imports are looked up from the program's own folder
    shutil.copy(PROGRAMS / program.name, program)
    run(node, program, scripted.base_url, scripted.model)


@pytest.mark.model
def test_lm_eval(real: ServedSite, tmp_path: Path) -> None:
    """Scores by log-probabilities of tokens it cut itself, and answers to compare, from a task in local files."""
    for file in (PROGRAMS / "lm_eval").iterdir():
        text = file.read_text().replace("capitals.jsonl", str(tmp_path / "capitals.jsonl"))
        (tmp_path / file.name).write_text(text)
    tokenizer = sample_chat_folder(Path.home() / ".cache" / "millstream", lambda *_: None)
    arguments = {
        "base_url": f"{real.base_url}/completions",
        "model": real.model,
        "tokenizer_backend": "huggingface",
        "tokenizer": str(tokenizer),
        "num_concurrent": "2",
    }
    command: list[str | Path] = [PYTHON, "-m", "lm_eval", "--model", "local-completions", "--batch_size", "2"]
    command += ["--model_args", ",".join(f"{name}={value}" for name, value in arguments.items())]
    command += ["--include_path", tmp_path, "--tasks", "capitals,says", "--output_path", tmp_path / "out"]
    run(*command)
    (found,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(found.read_text())["results"]
    assert results["capitals"]["acc,none"] >= 2 / 3 and "exact_match,none" in results["says"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSite]:
    """Every model name is known and every answer short, so that random requests get through to the engine."""
    worker = {"model": "simulated", "max_model_len": "256"}
    with running(tmp_path_factory.mktemp("small"), {"aliases": '["*=simulated"]'}, worker) as (url, model):
        yield ServedSite(url, model)


@pytest.mark.timeout(660)
def test_schemathesis(small: ServedSite) -> None:
    """Requests made from the description, valid and invalid: none is answered with a server error."""
    command = [PYTHON.with_name("schemathesis"), "run", f"{small.url}/openapi.json"]
    command += ["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--max-examples", "5"]
    command += ["--exclude-path", "/ready"]  # whose 503 is an answer: so many workers are not there
    command += ["--suppress-health-check", "all", "--warnings", "off", "--generation-database", "none"]
    run(*command, within=600)
