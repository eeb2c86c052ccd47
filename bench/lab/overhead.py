"""Measures the cost of the queue: our path and others in front of a direct server, side by side in one run.

    python -m bench.lab.overhead                      # 64 streams of 50 tokens/s, and 100 requests/s
    python -m bench.lab.overhead --streams 256 --peers

Gateway, Valkey and a simulated worker are processes of their own; the baseline is one process with the same engine.
Each round measures the baseline, then ours, so that both meet the same load of the machine; the medians of all rounds
and their ratio are printed.
"""

import argparse
import json
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from millstream.bench.harness.cluster import ClusterShape, Running, baseline, cluster
from millstream.bench.harness.measurement import Trial, arrivals, median_cpu, streams, trial
from millstream.bench.lab.peers import PEERS, Peer, install, light, running
from millstream.bench.lab.queue.worker_without_outbox import cost_without_outbox
from millstream.common.errors import Unavailable
from millstream.common.process import loop


@dataclass(frozen=True, slots=True)
class OverheadPlan:
    """The measurements to make."""

    streams: int = 64
    tokens: int = 300
    rounds: int = 3
    rate: float = 100.0
    seconds: float = 10.0
    peers: Path | None = None  # folder of their environments; None: without them


class Overhead:
    """One run of the measurement."""

    def __init__(self, plan: OverheadPlan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._table = Table("server", "CPU µs per token", "in all", "x baseline", "tokens/s", "between tokens p99 ms")
        self.result: dict[str, dict[str, float]] = {}

    async def run(self) -> None:
        """Runs everything in the plan."""
        async with AsyncExitStack() as stack:
            base = await stack.enter_async_context(baseline())
            ours = await stack.enter_async_context(cluster(ClusterShape()))
            await self._tokens(base, ours)
            for peer in PEERS if self._plan.peers else ():
                await self._peer(peer, base)
            self._console.print(self._table)
            await self._first_tokens(base, ours)

    async def _tokens(self, base: Running, ours: Running) -> None:
        load = streams(self._plan.streams, self._plan.tokens)
        pairs: list[tuple[Trial, Trial]] = []
        without_outbox: list[float] = []
        for server in (base, ours):  # connections, caches and the scripts' first loading are not what is measured
            await trial(server, streams(self._plan.streams, 8))
        for round in range(self._plan.rounds):
            pairs.append((await trial(base, load), await trial(ours, load)))
            without_outbox.append(await cost_without_outbox(self._plan.streams, self._plan.tokens))
            self._console.print(
                f"round {round + 1}: baseline {pairs[-1][0].total:.1f}, ours {pairs[-1][1].total:.1f}, "
                f"of that engine and text {without_outbox[-1]:.1f} µs"
            )
        self._row("baseline", [pair[0] for pair in pairs])
        self._row("millstream", [pair[1] for pair in pairs])
        self._queue([pair[1].total - quiet for pair, quiet in zip(pairs, without_outbox, strict=True)])

    def _queue(self, costs: list[float]) -> None:
        """Measures what is left of ours without the engine and the text: gateway, Redis and the worker's outbox."""
        total = round(median(costs), 1)
        ratio = round(total / self.result["baseline"]["total"], 2)
        self.result["gateway + redis + outbox"] = {"total": total, "ratio": ratio}
        self._table.add_row("gateway + redis + outbox", "", f"{total:g}", f"{ratio:.2f}", "", "")

    def _row(self, name: str, trials: list[Trial]) -> None:
        parts = median_cpu(trials)
        total = round(median(each.total for each in trials), 1)
        speed = median(each.figures.tokens_per_second for each in trials)
        ratio = round(total / self.result.get("baseline", {}).get("total", total), 2)
        self.result[name] = {**parts, "total": total, "ratio": ratio, "tokens_per_second": speed}
        shown = " + ".join(f"{part} {value:g}" for part, value in parts.items())
        gap = median(each.figures.between_tokens_ms.p99 for each in trials)
        self._table.add_row(name, shown, f"{total:g}", f"{ratio:.2f}", f"{speed:.0f}", f"{gap:.1f}")

    async def _peer(self, peer: Peer, base: Running) -> None:
        assert self._plan.peers is not None
        folder = self._plan.peers / peer.name
        try:
            await install(peer, folder)
            async with running(peer, folder, base) as server:
                load = light(streams(self._plan.streams, self._plan.tokens))
                trials = [await trial(server, load) for _ in range(self._plan.rounds)]
        except Unavailable as error:
            self._console.print(f"{peer.name} is left out: {error.message}", style="yellow")
            return
        self._row(peer.name, trials)

    async def _first_tokens(self, base: Running, ours: Running) -> None:
        """Sends the same requests at the same moments to both, one after the other, several times."""
        load = arrivals(self._plan.rate, self._plan.seconds, 4)
        pairs = [(await trial(base, load), await trial(ours, load)) for _ in range(self._plan.rounds)]
        table = Table(f"to the first token at {self._plan.rate:g} requests/s, ms", "baseline", "millstream", "added")
        self.result["first_token_ms"] = {}
        for name in ("p50", "p90", "p99"):
            values = [[getattr(each.figures.first_token_ms, name) for each in pair] for pair in pairs]
            direct, queued = (median(column) for column in zip(*values, strict=True))
            added = median(value[1] - value[0] for value in values)
            table.add_row(name, f"{direct:.2f}", f"{queued:.2f}", f"{added:+.2f}")
            self.result["first_token_ms"] |= {
                f"baseline_{name}": direct,
                name: queued,
                f"added_{name}": round(added, 2),
            }
        self._console.print(table)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=300, help="of each stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=100.0, help="requests/s of the second part")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the second part")
    parser.add_argument("--peers", action="store_true", help="measure LiteLLM, vllm-router and sglang-router too")
    parser.add_argument("--peers-folder", type=Path, default=Path(tempfile.gettempdir()) / "millstream-bench-peers")
    parser.add_argument("--json-file", type=Path)
    given = parser.parse_args()
    peers = given.peers_folder if given.peers else None
    plan = OverheadPlan(given.streams, given.tokens, given.rounds, given.rate, given.seconds, peers)
    overhead = Overhead(plan, Console())
    loop.run(overhead.run())
    if given.json_file:
        given.json_file.write_text(json.dumps(overhead.result, indent=2) + "\n")


if __name__ == "__main__":
    main()
