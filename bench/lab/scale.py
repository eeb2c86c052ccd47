"""Measures growth: workers, gateways, streams, and tokens through one Redis.

    python -m bench.lab.scale --workers 1,8,64 --gateways 1,2 --streams 64,256

Every part prints a table; the loads end by themselves. The line bends where the cores are used up: compare the CPU of
all processes with what the machine has.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from millstream.bench.command.load import Load
from millstream.bench.command.processes import Processes, spent
from millstream.bench.harness.cluster import MODEL, ClusterShape, Running, cluster, process, until_signed_in
from millstream.bench.harness.measurement import streams, trial
from millstream.bench.harness.redis_info import commands, waiting
from millstream.bench.harness.redis_load import RedisLoad
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.job import ModelName
from millstream.common.process import loop

PER_PROCESS = 16  # simulated workers in one process


class Scale:
    """One run; `result` holds all figures."""

    def __init__(self, console: Console, tokens: int) -> None:
        self._console = console
        self._tokens = tokens
        self.result: dict[str, list[dict[str, Any]]] = {}

    async def grid(self, workers: Sequence[int], gateways: Sequence[int], counts: Sequence[int]) -> None:
        """Measures every combination."""
        table = Table("workers", "gateways", "streams", "tokens/s", "µs/token", "commands/token", "first ms", "gap p99")
        for gateway_count in gateways:
            for worker_count in workers:
                async with AsyncExitStack() as stack:
                    server = await stack.enter_async_context(cluster(ClusterShape(gateways=gateway_count, workers=0)))
                    await self._hire(stack, server, worker_count)
                    for count in counts:
                        row = await self._cell(server, count)
                        table.add_row(str(worker_count), str(gateway_count), str(count), *row)
        self._console.print(table)

    async def _hire(self, stack: AsyncExitStack, server: Running, count: int) -> None:
        """Starts that many workers, in as few processes as is fair to one event loop."""
        server.pids["worker"] = []
        for at in range(0, count, PER_PROCESS):
            number = str(min(PER_PROCESS, count - at))
            command = [
                sys.executable,
                "-m",
                "millstream.bench.lab.many_workers",
                "--redis-url",
                server.redis_url,
                "--count",
                number,
            ]
            child = await stack.enter_async_context(process(command))
            server.pids["worker"].append(child.pid)
        await until_signed_in(server.redis_url, count)

    async def _cell(self, server: Running, count: int) -> list[str]:
        await trial(server, streams(count, 4))
        async with Broker(server.redis_url) as broker:
            before = await commands(broker)
            once = await trial(server, streams(count, self._tokens))
            calls = await commands(broker) - before
        figures, parts = once.figures, {name: round(value, 1) for name, value in once.cpu.items()}
        row = {
            "gateways": len(server.pids["gateway"]),
            "streams": count,
            "tokens_per_second": figures.tokens_per_second,
            "cpu": parts,
            "commands_per_token": round(calls / max(1, figures.tokens), 3),
            "first_token_ms": figures.first_token_ms.p50,
            "gap_p99_ms": figures.between_tokens_ms.p99,
            "errors": figures.errors,
        }
        self.result.setdefault("grid", []).append(row)
        shown = " + ".join(f"{name} {value:g}" for name, value in parts.items())
        first, gap = f"{row['first_token_ms']:.1f}", f"{row['gap_p99_ms']:.1f}"
        return [f"{figures.tokens_per_second:.0f}", shown, f"{row['commands_per_token']:g}", first, gap]

    async def redis(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Streams and tokens per chunk, through one Redis alone."""
        table = Table("streams", "tokens/chunk", "tokens/s", "CPU µs/token", "commands/step", "B/running", "B/finished")
        for count, per_chunk in shapes:
            with tempfile.TemporaryDirectory() as folder:
                async with EmbeddedValkey(Path(folder)) as valkey, Broker(valkey.url) as broker:
                    made = await RedisLoad(valkey, broker, count, per_chunk).measure(max(10, 6400 // count))
            self.result.setdefault("redis", []).append(asdict(made))
            table.add_row(*(f"{value:g}" for value in asdict(made).values()))
        self._console.print(table)

    async def waiting(self, count: int, seconds: float = 30.0) -> None:
        """Measures requests that wait for a slot: what they cost while nothing happens."""
        unbounded = ["--max-waiting", "0", "--max-waiting-tenant", "0"]
        async with cluster(ClusterShape(slots=1, rate=0.05, extra=unbounded)) as server:
            settings = streams(count, 4).model_copy(update={"base_url": server.url, "model": "simulated"})
            processes, load = Processes(server.pids), Load(settings, MODEL)
            empty = processes.read()
            running = asyncio.create_task(load.run())
            await _until_waiting(server.redis_url, count - 1)
            await asyncio.sleep(8)  # the watchdog's questions have become rare
            before = processes.read()
            await asyncio.sleep(seconds)
            after = processes.read()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        shares = {name: round(cpu / seconds * 100, 1) for name, cpu in spent(before, after).items()}
        memory = {name: round((after[name].memory - empty[name].memory) / count) for name in after}
        self.result["waiting"] = [{"requests": count, "cpu_percent": shares, "bytes_each": memory}]
        self._console.print(f"{count} waiting: CPU {shares} % of a core, memory {memory} bytes each")


async def _until_waiting(redis_url: str, count: int) -> None:
    async with Broker(redis_url) as broker:
        for _ in range(1200):
            if await waiting(broker, ModelName(MODEL)) >= count:
                return
            await asyncio.sleep(0.1)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


async def _run(scale: Scale, given: argparse.Namespace) -> None:
    if given.redis:
        await scale.redis([(64, 1), (64, 16), (256, 1), (256, 32)])
    await scale.grid(_numbers(given.workers), _numbers(given.gateways), _numbers(given.streams))
    if given.waiting:
        await scale.waiting(given.waiting)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,8,64", help="simulated ones, several in a process")
    parser.add_argument("--gateways", default="1,2")
    parser.add_argument("--streams", default="64,256")
    parser.add_argument("--tokens", type=int, default=150, help="of each stream")
    parser.add_argument("--waiting", type=int, default=2000, help="requests that only wait; 0: leave this part out")
    parser.add_argument("--redis", action=argparse.BooleanOptionalAction, default=True, help="Redis alone")
    parser.add_argument("--json-file", type=Path)
    given = parser.parse_args()
    scale = Scale(Console(), given.tokens)
    scale.result["machine"] = [{"cores": os.cpu_count()}]
    loop.run(_run(scale, given))
    if given.json_file:
        given.json_file.write_text(json.dumps(scale.result, indent=2) + "\n")


if __name__ == "__main__":
    main()
