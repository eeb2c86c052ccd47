"""The contracts of pyproject.toml hold: who may know whom, and what an import really pulls in."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_layers_hold() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def loaded_by(*modules: str) -> set[str]:
    code = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("modules", "not_needed"),
    [
        (("millstream.gateway.app",), {"torch", "transformers", "millstream.worker", "numpy"}),
        (("millstream.worker.app",), {"fastapi", "starlette", "uvicorn", "millstream.gateway"}),
        (("millstream.cli.main",), {"torch", "transformers", "fastapi", "uvicorn"}),
        (
            ("millstream.common.job", "millstream.common.chunk", "millstream.common.settings"),
            {"redis", "torch", "fastapi"},
        ),
    ],
)
def test_a_process_loads_only_what_it_needs(modules: tuple[str, ...], not_needed: set[str]) -> None:
    assert not loaded_by(*modules) & not_needed
