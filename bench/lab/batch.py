"""Measures the cost of a batch: its lines per second against the same requests sent directly, and the memory it takes.

    python -m bench.lab.batch --lines 2000 --slots 16 --rate 100 --tokens 32

Both go to the same simulated worker, one after the other: first directly, through the gateway, with twice as many open
requests as the worker has slots; then as one batch. The bound is what the worker's slots can do at that rate.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from millstream.bench.command.processes import Processes
from millstream.bench.harness.cluster import MODEL, ClusterShape, Running, cluster, process
from millstream.common.process import loop
from millstream.common.process.command import own_command
from millstream.common.process.tasks import TaskGroup

CHAT = "/v1/chat/completions"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """`rate` is tokens/s of one sequence."""

    lines: int
    slots: int
    rate: float
    tokens: int

    @property
    def bound(self) -> float:
        """Returns the lines per second if no slot were ever idle; a sequence takes one step more, for its end."""
        return self.slots * self.rate / self.tokens

    def body(self, number: int) -> dict[str, Any]:
        """Returns one request."""
        messages = [{"role": "user", "content": f"question {number}"}]
        return {"model": MODEL, "messages": messages, "max_tokens": self.tokens, "ignore_eos": True}

    def file(self) -> Iterator[str]:
        """Yields the same requests as a batch's lines."""
        for number in range(self.lines):
            line = {"custom_id": f"line-{number}", "method": "POST", "url": CHAT, "body": self.body(number)}
            yield json.dumps(line) + "\n"


async def directly(http: httpx.AsyncClient, plan: BatchPlan) -> float:
    """Returns the seconds for all of them."""
    numbers = iter(range(plan.lines))

    async def client() -> None:
        for number in numbers:
            (await http.post("chat/completions", json=plan.body(number))).raise_for_status()

    began = time.monotonic()
    async with TaskGroup() as tasks:
        for _ in range(2 * plan.slots):
            tasks.create_task(client())
    return time.monotonic() - began


async def as_batch(http: httpx.AsyncClient, plan: BatchPlan, folder: Path) -> dict[str, float]:
    """Returns the seconds until the file was checked, until all was answered, and until the output was there."""
    path = folder / "input.jsonl"
    path.write_text("".join(plan.file()))
    with path.open("rb") as file:
        sent = await http.post("files", data={"purpose": "batch"}, files={"file": file})
    began, moments = time.monotonic(), dict[str, float]()
    body = {"input_file_id": sent.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
    batch = (await http.post("batches", json=body)).json()
    while batch["status"] not in ("completed", "failed", "expired"):
        await asyncio.sleep(0.05)
        batch = (await http.get(f"batches/{batch['id']}")).json()
        moments.setdefault(batch["status"], time.monotonic() - began)
    assert batch["request_counts"]["completed"] == plan.lines, batch
    return moments


async def measure(plan: BatchPlan, console: Console) -> None:
    """Prints the figures."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-files-") as name:
        folder = Path(name)
        files = str(folder / "files")
        async with cluster(ClusterShape(slots=plan.slots, rate=plan.rate, extra=("--files-url", files))) as running:
            command = own_command("background")
            async with process(command, redis_url=running.redis_url, files_url=files) as background:
                await _measure(plan, running, background.pid, folder, console)


async def _measure(plan: BatchPlan, running: Running, background: int, folder: Path, console: Console) -> None:
    processes = Processes({"gateway": running.pids["gateway"], "background": [background]})
    limits = httpx.Limits(max_connections=4 * plan.slots)
    async with httpx.AsyncClient(base_url=running.url, timeout=600, trust_env=False, limits=limits) as http:
        direct = plan.lines / await directly(http, plan)
        before = processes.read()
        moments = await as_batch(http, plan, folder)
    after = processes.read()
    batch = plan.lines / (moments["completed"] - moments.get("in_progress", 0.0))
    console.print(f"{plan.lines} lines, bound {plan.bound:.1f} lines/s")
    console.print(f"directly {direct:.1f} lines/s, batch {batch:.1f} lines/s: {batch / direct:.3f} of direct")
    checked = moments.get("in_progress", 0.0)
    console.print(f"checked after {checked:.2f} s, output there after {moments['completed']:.2f} s")
    for part, cost in after.items():
        cpu = 1000 * (cost.cpu - before[part].cpu) / plan.lines
        memory = f"{before[part].memory / MIB:.0f} MiB before, {cost.memory / MIB:.0f} after"
        console.print(f"{part}: {cpu:.2f} ms of CPU a line, {memory}")


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--rate", type=float, default=100.0, help="tokens/s of one sequence")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    given = parser.parse_args()
    loop.run(measure(BatchPlan(given.lines, given.slots, given.rate, given.tokens), Console()))


if __name__ == "__main__":
    main()
