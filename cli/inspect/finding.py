"""The findings of `doctor`: one for each thing it looked at."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """One thing looked at. `remedy` says what to do about it, empty when nothing need be done."""

    grade: Literal["good", "note", "bad"]
    what: str
    remedy: str = ""
