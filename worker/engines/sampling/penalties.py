"""Penalties and biases as sparse edits of the logits: only the tokens concerned are touched."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (torch's indexing is partly unknown to pyright)

from collections.abc import Sequence as Many
from dataclasses import dataclass, field

import torch

from millstream.worker.engines.base import SequenceSpec


@dataclass(slots=True)
class Tally:
    """The tokens that a sequence has seen. Repetition counts prompt and completion, presence and frequency the
    completion alone (as vLLM and OpenAI do)."""

    repetition: float
    presence: float
    frequency: float
    prompt: frozenset[int]  # distinct tokens of the prompt; empty unless repetition is asked for
    counts: dict[int, int] = field(default_factory=dict[int, int])

    @classmethod
    def of(cls, spec: SequenceSpec) -> "Tally | None":
        s = spec.sampling
        if s.repetition_penalty == 1.0 and s.presence_penalty == 0.0 and s.frequency_penalty == 0.0:
            return None
        prompt = frozenset(spec.prompt) if s.repetition_penalty != 1.0 else frozenset[int]()
        tally = cls(s.repetition_penalty, s.presence_penalty, s.frequency_penalty, prompt)
        for token in spec.generated:
            tally.add(token)
        return tally

    def add(self, token: int) -> None:
        self.counts[token] = self.counts.get(token, 0) + 1


@dataclass(slots=True)
class _Cells:
    """Cells of the logits matrix `[batch, vocabulary]` and what each needs."""

    rows: list[int] = field(default_factory=list[int])
    columns: list[int] = field(default_factory=list[int])
    factor: list[float] = field(default_factory=list[float])
    minus: list[float] = field(default_factory=list[float])

    def extend(self, row: int, tally: Tally) -> None:
        seen = tally.counts
        only_prompt = tally.prompt - seen.keys()
        n, m = len(seen), len(only_prompt)
        self.rows += [row] * (n + m)
        self.columns += [*seen, *only_prompt]
        self.factor += [tally.repetition] * (n + m)
        self.minus += [tally.presence + tally.frequency * count for count in seen.values()]
        self.minus += [0.0] * m


def penalise(logits: torch.Tensor, tallies: Many[tuple[int, Tally]]) -> None:
    """Edit `logits` `[batch, vocabulary]` in place for `(row, tally)` pairs: a seen token's logit is divided by the
    repetition penalty if positive, multiplied if negative; then presence once and frequency per count are taken off."""
    cells = _Cells()
    for row, tally in tallies:
        cells.extend(row, tally)
    if not cells.rows:
        return
    at = _index(cells.rows, cells.columns, logits.device)
    factor = torch.tensor(cells.factor, device=logits.device)
    values = logits[at]
    values = torch.where(values < 0, values * factor, values / factor)
    logits[at] = values - torch.tensor(cells.minus, device=logits.device)


def add_bias(logits: torch.Tensor, biases: Many[tuple[int, dict[int, float]]]) -> None:
    """Add `{token: bias}` of `(row, biases)` pairs to `logits` `[batch, vocabulary]` in place."""
    rows = [row for row, bias in biases for _ in bias]
    if not rows:
        return
    at = _index(rows, [token for _, bias in biases for token in bias], logits.device)
    logits[at] += torch.tensor([v for _, bias in biases for v in bias.values()], device=logits.device)


def allow_only(logits: torch.Tensor, tokens: Many[tuple[int, list[int]]]) -> None:
    """Make all but the tokens of `(row, tokens)` pairs impossible, in place."""
    for row, allowed in tokens:
        kept = logits[row, allowed]  # a copy
        logits[row] = float("-inf")
        logits[row, allowed] = kept


def forbid(logits: torch.Tensor, tokens: Many[tuple[int, frozenset[int]]]) -> None:
    """Make the tokens of `(row, tokens)` pairs impossible, in place."""
    rows = [row for row, banned in tokens for _ in banned]
    if rows:
        logits[_index(rows, [t for _, banned in tokens for t in banned], logits.device)] = float("-inf")


def _index(rows: list[int], columns: list[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(rows, device=device), torch.tensor(columns, device=device)
