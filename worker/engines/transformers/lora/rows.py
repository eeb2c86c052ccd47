"""Tells which rows of a forward pass belong to which adapter."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch publishes partly unknown types)

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

_TOGETHER = 4  # rows of one adapter from which a product of their own is cheaper than a place in the batched one


@dataclass(frozen=True, slots=True)
class StepRows:
    """The rows `[0, count)` of one forward pass. `groups`: adapters with many rows, each with its rows; `few`: single
    rows of the others. A row of neither belongs to the model itself."""

    groups: list[tuple[str, slice | torch.Tensor]]
    few: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    count: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _told: dict[tuple[str, ...], tuple[torch.Tensor, torch.Tensor] | None] = field(
        default_factory=dict[tuple[str, ...], tuple[torch.Tensor, torch.Tensor] | None]
    )

    def few_of(self, order: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Returns the single rows of the adapters in `order`, and the place in it of each row's adapter; None without
        any. Most layers have the same adapters, so it is found once."""
        if order not in self._told:
            places = {adapter: place for place, adapter in enumerate(order)}
            found = [(row, places[adapter]) for adapter, row in self.few if adapter in places]
            rows, chosen = ([pair[at] for pair in found] for at in (0, 1))
            told = (torch.tensor(rows, device=self.device), torch.tensor(chosen, device=self.device))
            self._told[order] = told if found else None
        return self._told[order]


def grouped(spans: Iterable[tuple[str, int]], device: torch.device) -> StepRows | None:
    """Returns the rows by adapter; None if all are the model's own. `spans`: of each sequence of the packed batch, in
    order, its adapter (empty: none) and how many rows it has."""
    rows: dict[str, list[int]] = {}
    count = 0
    for adapter, length in spans:
        if adapter:
            rows.setdefault(adapter, []).extend(range(count, count + length))
        count += length
    if not rows:
        return None
    groups = [(adapter, _compact(own, device)) for adapter, own in rows.items() if len(own) >= _TOGETHER]
    few = [(adapter, row) for adapter, own in rows.items() if len(own) < _TOGETHER for row in own]
    return StepRows(groups, few, count, device)


def _compact(rows: list[int], device: torch.device) -> slice | torch.Tensor:
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(rows[0], rows[-1] + 1)
    return torch.tensor(rows, device=device)


class CurrentRows:
    """The rows of the forward pass that is under way; None: no adapter counts. Touched where the model runs alone."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.step: StepRows | None = None

    @contextmanager
    def packed(self, spans: Iterable[tuple[str, int]]) -> Generator[None]:
        """For a packed batch: see `grouped`."""
        self.step = grouped(spans, self._device)
        try:
            yield
        finally:
            self.step = None

    @contextmanager
    def all_of(self, adapter: str) -> Generator[None]:
        """For passes of one sequence alone."""
        self.step = StepRows([(adapter, slice(None))]) if adapter else None
        try:
            yield
        finally:
            self.step = None

    def working(self, adapter: str, work: Iterator[None]) -> Iterator[None]:
        """Yields as `work` does; all passes of its pieces are the adapter's."""
        while True:
            with self.all_of(adapter):
                try:
                    next(work)
                except StopIteration:
                    return
            yield
