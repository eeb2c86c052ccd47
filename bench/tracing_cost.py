"""Measures what traces cost, off and on, and beside another checkout that has none.

    python -m bench.tracing_cost                        # 64 short answers at a time, off and on
    python -m bench.tracing_cost --before ../elsewhere  # beside the sources of another checkout

Each way has a cluster of its own, of the same processes; they take turns in each round, so that all meet the same load
of the machine. The receiver of the spans is this process: what it costs is not counted.
"""

import argparse
import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from millstream.bench.harness.cluster import ClusterShape, Running, cluster
from millstream.bench.harness.measurement import Trial, streams, trial
from millstream.common.process import loop
from millstream.common.settings import hand_to_children

PARTS = ("gateway", "redis", "worker")
ANSWERS = 30  # rounds of answers in a measurement: a short one alone says little


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request of one connection."""
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).lower():
            length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            await reader.readexactly(int(length))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@asynccontextmanager
async def receiver() -> AsyncGenerator[str]:
    """Takes spans and forgets them."""
    server = await asyncio.start_server(_take, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def clusters(stack: AsyncExitStack, before: str) -> dict[str, Running]:
    """Returns the clusters to compare, by name."""
    url = await stack.enter_async_context(receiver())
    found: dict[str, Running] = {}
    if before:
        hand_to_children("PYTHONPATH", before)
        found["before"] = await stack.enter_async_context(cluster(ClusterShape(rate=0)))
        hand_to_children("PYTHONPATH", "")
    found["off"] = await stack.enter_async_context(cluster(ClusterShape(rate=0)))
    hand_to_children("MILLSTREAM_OTLP_ENDPOINT", url)
    for name, ratio in (("on, none recorded", "0"), ("on, all recorded", "1")):
        hand_to_children("MILLSTREAM_TRACE_RATIO", ratio)
        found[name] = await stack.enter_async_context(cluster(ClusterShape(rate=0)))
    return found


def per_request(made: Trial, tokens: int) -> dict[str, float]:
    """Returns the CPU microseconds per request, by process."""
    return {part: made.cpu[part] * tokens for part in PARTS}


async def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    load = streams(options.answers, options.tokens, ANSWERS)
    async with AsyncExitStack() as stack:
        sides = await clusters(stack, options.before)
        for side in sides.values():  # connections, caches and the scripts' first loading are not what is measured
            await trial(side, load)
        made: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        names = list(sides)
        for round in range(options.rounds):  # each way is the first of a round equally often
            for name in [*names[round % len(names) :], *names[: round % len(names)]]:
                made[name].append(per_request(await trial(sides[name], load), options.tokens))
    print_table(made)


def print_table(made: dict[str, list[dict[str, float]]]) -> None:
    """Prints medians; the ratio is that of the pairs of each round, to the first way."""
    table = Table("traces", *(f"{part}, µs per request" for part in PARTS), "in all", "ratio")
    totals = {name: [sum(each.values()) for each in rounds] for name, rounds in made.items()}
    first = next(iter(totals.values()))
    for name, rounds in made.items():
        ratio = median(ours / theirs for ours, theirs in zip(totals[name], first, strict=True))
        cells = [f"{median(each[part] for each in rounds):.0f}" for part in PARTS]
        table.add_row(name, *cells, f"{median(totals[name]):.0f}", f"{ratio:.3f}")
    Console(width=120).print(table)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=64, help="at once")
    parser.add_argument("--tokens", type=int, default=8, help="of each answer")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--before", default="", help="folder of another checkout, measured as well")
    given = parser.parse_args()
    given.before = given.before and str(Path(given.before).resolve())
    loop.run(run(given))


if __name__ == "__main__":
    main()
