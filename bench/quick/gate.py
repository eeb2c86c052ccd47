"""Judges ratios: how much more than the committed ones they may be."""

import json
from collections.abc import Mapping
from pathlib import Path

COMMITTED = Path(__file__).with_name("ratios.json")
ALLOWED = 1.3  # times the committed ratio: the spread of such runs on a machine that others use is a fifth


def committed() -> dict[str, float]:
    """Returns the committed ratios by name."""
    return json.loads(COMMITTED.read_text(encoding="utf-8"))


def commit(found: Mapping[str, float]) -> None:
    """Writes `found` in place of the committed ratios."""
    told = {name: round(ratio, 2) for name, ratio in found.items()}
    COMMITTED.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def too_slow(found: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    """Returns the names of ratios beyond what is allowed. One that was not committed is too slow: nobody has agreed to
    it."""
    return [name for name, ratio in found.items() if not ratio <= ALLOWED * before.get(name, 0.0)]
