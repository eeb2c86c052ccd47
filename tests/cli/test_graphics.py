"""Cards as doctor tells them, with an `nvidia-smi` of our own on the path: a program that says what a script says."""

from pathlib import Path

import pytest

from millstream.cli.inspect.graphics import built_for, graphics, mismatch

LISTED = "0, NVIDIA H100 80GB HBM3, 550.54.15, 81559, 80994\n1, NVIDIA H100 80GB HBM3, 550.54.15, 81559, 12\n"
TABLE = "| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4 |\n"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return tmp_path


def install(path: Path, script: str) -> None:
    program = path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_cards_are_told_with_driver_and_free_memory(path: Path) -> None:
    (path / "listed").write_text(LISTED)
    (path / "table").write_text(TABLE)
    install(path, f"[ $# = 0 ] && exec cat {path}/table\nexec cat {path}/listed")
    first, second, *fits = graphics()
    assert first.what == "GPU 0: NVIDIA H100 80GB HBM3, driver 550.54.15, 80994 of 81559 MiB free"
    assert second.what.endswith("12 of 81559 MiB free")
    assert fits == list(mismatch(built_for(), "12.4"))


def test_a_driver_that_fails_is_told(path: Path) -> None:
    install(path, "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9")
    [finding] = graphics()
    assert finding.grade == "bad" and "could not communicate" in finding.what and finding.remedy


def test_a_machine_without_cards_is_well(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(path))
    [finding] = graphics()
    assert finding.grade == "good" and "no nvidia-smi" in finding.what


@pytest.mark.parametrize(
    ("built", "newest", "grade"),
    [
        ("", "12.4", "bad"),
        ("13.0", "12.4", "bad"),
        ("12.8", "12.4", "good"),
        ("12.8", "13.0", "good"),
        ("12.8", "", "good"),
    ],
)
def test_a_torch_that_does_not_fit_is_told(built: str, newest: str, grade: str) -> None:
    [finding] = mismatch(built, newest)
    assert finding.grade == grade and bool(finding.remedy) == (grade == "bad")
