"""The gate of `make bench-quick`: what it lets pass, and what not."""

import json
from math import nan
from pathlib import Path

import pytest

from millstream.bench.quick import __main__ as quick
from millstream.bench.quick import gate
from millstream.bench.quick.step import differences


@pytest.fixture
def ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ratios of this test's own: those of the repository stay as they are."""
    file = tmp_path / "ratios.json"
    file.write_text(json.dumps({"gateway": 0.6, "step": 1.0}))
    monkeypatch.setattr(gate, "COMMITTED", file)
    return file


def run(monkeypatch: pytest.MonkeyPatch, found: dict[str, float], *flags: str) -> int:
    monkeypatch.setattr(quick, "measured", lambda: found)
    monkeypatch.setattr("sys.argv", ["quick", *flags])
    with pytest.raises(SystemExit) as ended:
        quick.main()
    return int(str(ended.value.code))


@pytest.mark.usefixtures("ratios")
def test_up_to_thirty_percent_more_passes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, {"gateway": 0.77, "step": 0.1}) == 0
    assert "TOO SLOW" not in capsys.readouterr().out
    assert run(monkeypatch, {"gateway": 0.79, "step": 1.0}) == 1
    assert capsys.readouterr().out.count("TOO SLOW") == 1


def test_what_nobody_agreed_to_and_what_is_no_number_are_too_slow() -> None:
    assert gate.too_slow({"new": 0.1, "gateway": nan, "step": 1.0}, {"gateway": 0.6, "step": 1.0}) == ["new", "gateway"]


def test_ratios_are_committed_when_asked(ratios: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, {"gateway": 3.14159}, "--commit") == 0
    assert json.loads(ratios.read_text()) == {"gateway": 3.14}
    assert run(monkeypatch, {"gateway": 3.14159}) == 0


def test_the_repository_has_a_ratio_for_each_measurement() -> None:
    committed = gate.committed()
    assert len(committed) == len(quick.PARTS) + 2
    assert all(0 < ratio < 10 for ratio in committed.values())


def test_tokens_are_timed_from_one_to_the_next() -> None:
    assert differences([1.0, 1.5, 3.5]) == [0.5, 2.0]
