"""The picture of a run: how latencies are spread, and how they went over time."""

# pyright: reportUnknownMemberType=false
# matplotlib leaves most of its keyword arguments untyped.

from collections.abc import Sequence
from pathlib import Path

from millstream.bench.command.statistics import AnswerTimes
from millstream.common.errors import Unavailable


def plot(answers: Sequence[AnswerTimes], path: Path) -> None:
    """Draws a PNG. Raises `Unavailable` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unavailable("Plots need matplotlib: pip install 'millstream[bench]'.") from error
    good = [answer for answer in answers if not answer.error and answer.end is not None]
    figure = Figure(figsize=(11, 4), layout="constrained")
    spread, course = figure.subplots(1, 2)
    series = {
        "to the first token": [a.first - a.start for a in good if a.first is not None],
        "between tokens": [gap for a in good for gap in a.gaps],
        "whole answer": [a.end - a.start for a in good if a.end is not None],
    }
    for name, seconds in series.items():
        ordered = sorted(seconds)
        shares = [(rank + 1) / len(ordered) for rank in range(len(ordered))]
        spread.plot([max(value, 1e-5) * 1000 for value in ordered], shares, label=name)
    spread.set(xscale="log", xlabel="milliseconds", ylabel="share of all")
    spread.grid(True, alpha=0.3)
    spread.legend()
    begin = min((answer.start for answer in good), default=0.0)
    moments = [(a.start - begin, (a.first - a.start) * 1000) for a in good if a.first is not None]
    course.plot([at for at, _ in moments], [ms for _, ms in moments], ".", markersize=3)
    course.set(xlabel="seconds into the run", ylabel="milliseconds to the first token")
    course.grid(True, alpha=0.3)
    figure.savefig(path, dpi=120)
