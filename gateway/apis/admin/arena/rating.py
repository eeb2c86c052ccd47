"""Bradley-Terry strengths from votes: how likely each model's answer is preferred to another's, with 95 % intervals.

A tie, and two bad answers, count as half a win for each. Each model also has one tie with a model of average strength,
so that one that never won (or lost) has a rating too."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log, log10, sqrt
from typing import Literal

Winner = Literal["left", "right", "tie", "both_bad"]
Ballot = tuple[str, str, Winner]  # the models left and right, and which was preferred
AVERAGE, SCALE = 1000.0, 400.0  # of a rating, as in chess: 400 points are odds of ten to one
ROUNDS, CLOSE = 1000, 1e-9  # most iterations, and the relative change at which they end
SIGMAS = 1.96  # of a normal distribution, within which 95 % lie


@dataclass(frozen=True, slots=True)
class Rating:
    """One model's place. `low` and `high`: between them its rating lies with 95 % certainty."""

    model: str
    rating: float
    low: float
    high: float
    votes: int
    wins: int
    losses: int
    ties: int


@dataclass(slots=True)
class _Tally:
    won: list[float]
    met: list[list[float]]


def ratings(ballots: Iterable[Ballot]) -> list[Rating]:
    """Returns all models that votes name, the strongest first. A vote on a model against itself says nothing."""
    cast = [ballot for ballot in ballots if ballot[0] != ballot[1]]
    models = sorted({model for left, right, _ in cast for model in (left, right)})
    tally = _count(cast, models)
    strengths = _strengths(tally)
    spreads = _spreads(tally, strengths)
    found = [_rating(model, cast, strengths[at], spreads[at]) for at, model in enumerate(models)]
    return sorted(found, key=lambda each: (-each.rating, each.model))


def _count(cast: Sequence[Ballot], models: list[str]) -> _Tally:
    at = {model: index for index, model in enumerate(models)}
    tally = _Tally([0.5] * len(models), [[0.0] * len(models) for _ in models])
    for left, right, winner in cast:
        share = {"left": 1.0, "right": 0.0}.get(winner, 0.5)
        tally.won[at[left]] += share
        tally.won[at[right]] += 1 - share
        tally.met[at[left]][at[right]] += 1
        tally.met[at[right]][at[left]] += 1
    return tally


def _strengths(tally: _Tally) -> list[float]:
    """Returns the strengths of greatest likelihood, by the usual iteration (Zermelo's)."""
    strengths = [1.0] * len(tally.won)
    for _ in range(ROUNDS):
        new = [won / _expected(tally.met[at], strengths, at) for at, won in enumerate(tally.won)]
        change = max((abs(a / b - 1) for a, b in zip(new, strengths, strict=True)), default=0.0)
        strengths = new
        if change < CLOSE:
            break
    return strengths


def _expected(met: list[float], strengths: list[float], at: int) -> float:
    own = strengths[at]
    return sum(count / (own + other) for count, other in zip(met, strengths, strict=True) if count) + 1 / (own + 1)


def _spreads(tally: _Tally, strengths: list[float]) -> list[float]:
    """Returns the standard deviation of each strength's logarithm beside the mean of all: by the inverse of the Fisher
    information, without what all have in common."""
    size = len(strengths)
    information = [[0.0] * size for _ in range(size)]
    for a, own in enumerate(strengths):
        information[a][a] += own / (own + 1) ** 2
        for b, other in enumerate(strengths):
            weight = tally.met[a][b] * own * other / (own + other) ** 2
            information[a][a] += weight
            information[a][b] -= weight
    covariance = _inverse(information)
    means = [sum(row) / size for row in covariance]
    common = sum(means) / size if size else 0.0
    return [sqrt(max(row[at] - 2 * means[at] + common, 0.0)) for at, row in enumerate(covariance)]


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """Returns the inverse of a positive definite matrix (Gauss and Jordan)."""
    size = len(matrix)
    rows = [[*row, *(float(a == b) for b in range(size))] for a, row in enumerate(matrix)]
    for at in range(size):
        pivot = rows[at][at]
        rows[at] = [value / pivot for value in rows[at]]
        for other in range(size):
            if other != at and rows[other][at]:
                factor = rows[other][at]
                rows[other] = [value - factor * own for value, own in zip(rows[other], rows[at], strict=True)]
    return [row[size:] for row in rows]


def _rating(model: str, cast: Sequence[Ballot], strength: float, spread: float) -> Rating:
    own = [(left == model, winner) for left, right, winner in cast if model in (left, right)]
    wins = sum(winner == ("left" if is_left else "right") for is_left, winner in own)
    ties = sum(winner in ("tie", "both_bad") for _, winner in own)
    rating, reach = AVERAGE + SCALE * log10(strength), SIGMAS * spread * SCALE / log(10)
    figures = (round(rating, 1), round(rating - reach, 1), round(rating + reach, 1))
    return Rating(model, *figures, len(own), wins, len(own) - wins - ties, ties)
