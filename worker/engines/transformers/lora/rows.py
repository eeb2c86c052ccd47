"""Tells which rows of a forward pass belong to which adapter."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch publishes partly unknown types)

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

_ALONE = 32  # rows of one adapter from which products of its own are cheaper than a share in the mixed ones
_IDLE = 2  # times as many ranks are loaded as are needed: then those that are needed are picked out first

Layout = tuple[tuple[str, int], ...]  # the adapters of a layer with their ranks, in order


@dataclass(frozen=True, slots=True)
class MixedRows:
    """Rows of several adapters, computed together. `ranks`: those of the layer that are needed (None: all); `foreign`
    `[rows, ranks]` tells which of them belong to another adapter than the row."""

    rows: slice | torch.Tensor
    ranks: torch.Tensor | None
    foreign: torch.Tensor


@dataclass(frozen=True, slots=True)
class StepRows:
    """The rows `[0, count)` of one forward pass. `groups`: adapters whose rows are computed apart, each with its rows;
    `mixed`: the rows of the others. A row of neither belongs to the model itself."""

    groups: list[tuple[str, slice | torch.Tensor]]
    mixed: dict[int, str] = field(default_factory=dict[int, str])
    count: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _told: dict[Layout, MixedRows | None] = field(default_factory=dict[Layout, MixedRows | None])

    def mixed_in(self, layout: Layout) -> MixedRows | None:
        """Returns the mixed rows as a layer computes them; None if it has none of their adapters. Most layers have
        the same adapters, so it is found once."""
        if layout not in self._told:
            self._told[layout] = self._find(layout)
        return self._told[layout]

    def _find(self, layout: Layout) -> MixedRows | None:
        places = {adapter: place for place, (adapter, _) in enumerate(layout)}
        wanted = {row: places[adapter] for row, adapter in self.mixed.items() if adapter in places}
        if not wanted:
            return None
        owners = torch.tensor([place for place, (_, rank) in enumerate(layout) for _ in range(rank)])
        needed = torch.isin(owners, torch.tensor(sorted(set(wanted.values()))))
        ranks = needed.nonzero()[:, 0] if _IDLE * int(needed.sum()) < len(owners) else None
        owners = owners if ranks is None else owners[ranks]
        most = 2 * len(wanted) >= self.count  # then the few others are computed, too, and nothing is added to them
        chosen = [wanted.get(row, -1) for row in range(self.count)] if most else list(wanted.values())
        rows = slice(0, self.count) if most else torch.tensor(list(wanted), device=self.device)
        foreign = torch.tensor(chosen)[:, None] != owners[None]
        return MixedRows(rows, ranks if ranks is None else ranks.to(self.device), foreign.to(self.device))


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
    apart = {adapter for adapter, own in rows.items() if len(own) >= _ALONE or len(rows) == 1}
    groups = [(adapter, _compact(rows[adapter], device)) for adapter in rows if adapter in apart]
    mixed = {row: adapter for adapter, own in rows.items() if adapter not in apart for row in own}
    return StepRows(groups, mixed, count, device)


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
