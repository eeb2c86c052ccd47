"""`millstream batches`: the batches that are not over, with a bar each that moves while they do."""

import asyncio
import sys
import time
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from millstream.cli.settings import BatchesSettings
from millstream.common.broker.connection.opening import open_broker
from millstream.common.broker.records.batches import Batches

LOOK_EVERY = 0.5  # seconds
HEADER = ("batch", "tenant", "model", "status", "", "done", "failed", "lines/s", "left")
NEEDED = {"batch": 30, "status": 11, "done": 11, "left": 8}  # characters; where it is narrow the others give way
BAR = 24  # characters, where there is room
WIDE = 250  # characters of a line that is piped into other tools: nothing is left out


@dataclass(frozen=True, slots=True)
class Row:
    """One batch as it is now. `running` is how long it has run, in seconds."""

    id: str
    tenant: str
    model: str
    status: str
    total: int
    completed: int
    failed: int
    running: float

    @property
    def done(self) -> int:
        return self.completed + self.failed

    @property
    def rate(self) -> float:
        """Returns the lines per second since it began."""
        return self.done / self.running if self.running > 0 else 0.0

    @property
    def left(self) -> str:
        """Returns how long it will take at that rate."""
        if not self.rate or self.status != "in_progress":
            return "-"
        seconds = int((self.total - self.done) / self.rate)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def row(batch: str, state: dict[str, str], now: float) -> Row:
    """Returns a batch's state as a row."""
    began = float(state.get("in_progress_at") or now)
    total, completed, failed = (int(state.get(name) or 0) for name in ("total", "completed", "failed"))
    model = state.get("model") or "-"
    return Row(batch, state["tenant"], model, state["status"], total, completed, failed, now - began)


async def rows(batches: Batches) -> list[Row]:
    """Returns all batches that are not over, the oldest first."""
    states = [(batch, await batches.state(batch)) for batch in await batches.active()]
    return [row(batch, state, time.time()) for batch, state in states if state]


def table(found: list[Row]) -> Table:
    """Returns the table of batches with a bar each."""
    made = Table(box=None, pad_edge=False)
    for name in HEADER:
        made.add_column(name, no_wrap=True, min_width=NEEDED.get(name), max_width=None if name else BAR)
    for each in found:
        bar = ProgressBar(total=max(each.total, 1), completed=each.done)
        figures = (f"{each.done}/{each.total}", str(each.failed), f"{each.rate:.1f}", each.left)
        made.add_row(*map(Text, (each.id, each.tenant, each.model, each.status)), bar, *figures)
    return made


def run(settings: BatchesSettings) -> int:
    """Runs the command and returns its exit status."""
    try:
        asyncio.run(_show(settings))
    except KeyboardInterrupt:
        sys.stdout.write("\n")
    return 0


async def _show(settings: BatchesSettings) -> None:
    console = Console(soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDE
    async with open_broker(settings) as broker:
        batches = Batches(broker)
        found = await rows(batches)
        if not found:
            console.print("No batch is under way.", markup=False)
            return
        if not settings.watch or not console.is_terminal:
            console.print(table(found))
            return
        with Live(table(found), console=console, auto_refresh=False) as live:
            while found:
                await asyncio.sleep(LOOK_EVERY)
                found = await rows(batches)
                live.update(table(found), refresh=True)
