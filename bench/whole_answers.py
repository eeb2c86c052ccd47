"""Measures what a token costs in an answer that nobody reads token by token, beside the same answer as a stream.

    python -m bench.whole_answers                       # 64 at once, 300 tokens each
    python -m bench.whole_answers --tokens 1000

One cluster, one simulated worker; streams and whole answers take turns, so that both meet the same load of the machine.
A request costs the same however long its answer is: short answers in each round tell how much, and the rows without the
request leave it out.
"""

import argparse
import json
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from millstream.bench.command.settings import BenchSettings
from millstream.bench.harness.cluster import ClusterShape, Running, cluster
from millstream.bench.harness.measurement import Trial, streams, trial
from millstream.common.process import loop

SHORT = 2  # tokens of an answer that is almost nothing but its request
PARTS = ("gateway", "redis", "worker")
KINDS = ("streamed", "whole")


def load(kind: str, count: int, tokens: int) -> BenchSettings:
    """Returns the load of so many answers at once, read in this way."""
    return streams(count, tokens).model_copy(update={"stream": kind == "streamed"})


def per_request(made: Trial, tokens: int) -> dict[str, float]:
    """Returns the CPU microseconds per request, by process."""
    return {part: made.cpu[part] * tokens for part in PARTS}


async def round_of(server: Running, count: int, tokens: int) -> dict[str, dict[str, float]]:
    """Measures both kinds once: microseconds per token with the request's share, and without it."""
    found: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        long = per_request(await trial(server, load(kind, count, tokens)), tokens)
        short = per_request(await trial(server, load(kind, count, SHORT)), SHORT)
        found[kind] = {part: long[part] / tokens for part in PARTS}
        found[f"{kind}, without the request"] = {part: (long[part] - short[part]) / (tokens - SHORT) for part in PARTS}
    return found


async def measure(count: int, tokens: int, rounds: int) -> dict[str, dict[str, float]]:
    """Returns the medians of the rounds."""
    async with cluster(ClusterShape()) as server:
        for kind in KINDS:  # connections, caches and the scripts' first loading are not what is measured
            await trial(server, load(kind, count, 8))
        made = [await round_of(server, count, tokens) for _ in range(rounds)]
    return {kind: {part: round(median(each[kind][part] for each in made), 2) for part in PARTS} for kind in made[0]}


def table(result: dict[str, dict[str, float]]) -> Table:
    """Returns the result as a table; the last column is what gateway and Redis cost together."""
    shown = Table("answers", *(f"{part}, µs per token" for part in PARTS), "gateway + redis")
    for kind, cpu in result.items():
        shown.add_row(kind, *(f"{cpu[part]:.2f}" for part in PARTS), f"{cpu['gateway'] + cpu['redis']:.2f}")
    return shown


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=64, help="at once")
    parser.add_argument("--tokens", type=int, default=300, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json-file", type=Path)
    given = parser.parse_args()
    result = loop.run(measure(given.answers, given.tokens, given.rounds))
    Console().print(table(result))
    if given.json_file is not None:
        given.json_file.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
