"""A run's figures: a table, JSON, a picture."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from millstream.bench.command.statistics import Figures, Spread


@dataclass(frozen=True, slots=True)
class Report:
    """`cpu` is in seconds, by process."""

    figures: Figures
    cpu: Mapping[str, float]

    @property
    def per_thousand_requests(self) -> dict[str, float]:
        """Returns the CPU seconds per thousand requests, by process."""
        good = self.figures.requests - sum(self.figures.errors.values())
        return {name: round(cpu / good * 1000, 3) for name, cpu in self.cpu.items()} if good else {}

    @property
    def per_million_tokens(self) -> dict[str, float]:
        """Returns the CPU seconds per million tokens, by process; the same number is microseconds per token."""
        tokens = self.figures.tokens
        return {name: round(cpu / tokens * 1e6, 2) for name, cpu in self.cpu.items()} if tokens else {}

    def as_json(self) -> dict[str, Any]:
        """Returns all of it, JSON-ready."""
        return {
            **asdict(self.figures),
            "cpu_seconds": {name: round(cpu, 3) for name, cpu in self.cpu.items()},
            "cpu_seconds_per_1000_requests": self.per_thousand_requests,
            "cpu_seconds_per_million_tokens": self.per_million_tokens,
        }

    def save(self, path: Path) -> None:
        """Saves the report as JSON."""
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n")

    def show(self, console: Console) -> None:
        """Shows the report as tables."""
        figures = self.figures
        console.print(
            f"{figures.requests} requests in {figures.seconds:g} s: {figures.requests_per_second:g} requests/s, "
            f"{figures.tokens_per_second:g} tokens/s, {sum(figures.errors.values())} errors"
        )
        for error, count in figures.errors.items():
            console.print(f"  {count} x {error}", style="red")
        console.print(_latencies(figures))
        if self.cpu:
            console.print(self._costs())

    def _costs(self) -> Table:
        table = Table("CPU of", "seconds", "s per 1000 requests", "s per million tokens (= µs per token)")
        for name, cpu in self.cpu.items():
            per = self.per_thousand_requests.get(name), self.per_million_tokens.get(name)
            table.add_row(name, f"{cpu:.2f}", *("-" if value is None else f"{value:g}" for value in per))
        return table


def _latencies(figures: Figures) -> Table:
    table = Table("milliseconds", "p50", "p90", "p99", "max")
    rows: list[tuple[str, Spread]] = [
        ("to the first token", figures.first_token_ms),
        ("between tokens", figures.between_tokens_ms),
        ("whole answer", figures.whole_ms),
    ]
    for name, spread in rows:
        table.add_row(name, *(f"{value:.2f}" for value in (spread.p50, spread.p90, spread.p99, spread.max)))
    return table
