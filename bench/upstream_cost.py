"""Measures what a worker in front of an OpenAI server costs, against the server asked directly.

    python -m bench.upstream_cost                                    # the lab's server, 50 tokens/s a stream
    python -m bench.upstream_cost --upstream http://127.0.0.1:8080   # any server

Each round asks the server directly, then through gateway, Valkey and worker, so that both meet the same load of the
machine; the medians of all rounds are printed.
"""

import argparse
from contextlib import AsyncExitStack
from statistics import median

from rich.console import Console
from rich.table import Table

from millstream.bench.harness.cluster import ClusterShape, Running, baseline, cluster
from millstream.bench.harness.measurement import Trial, streams, trial
from millstream.common.process import loop

STREAMS = (1, 16, 64)
LEAST = 16  # requests of a measurement: one alone says little of first tokens


async def compare(direct: Running, ours: Running, count: int, options: argparse.Namespace) -> list[tuple[Trial, Trial]]:
    """Returns pairs of measurements, the server's and ours."""
    load = streams(count, options.tokens, max(1, LEAST // count))
    for server in (direct, ours):
        await trial(server, streams(count, 4))
    return [(await trial(direct, load), await trial(ours, load)) for _ in range(options.rounds)]


def add_row(table: Table, count: int, pairs: list[tuple[Trial, Trial]]) -> None:
    """Adds the medians of one number of streams."""
    speeds = [median(pair[side].figures.tokens_per_second for pair in pairs) for side in (0, 1)]
    firsts = [median(pair[side].figures.first_token_ms.p50 for pair in pairs) for side in (0, 1)]
    added = median(pair[1].figures.first_token_ms.p50 - pair[0].figures.first_token_ms.p50 for pair in pairs)
    cpu = median(pair[1].total for pair in pairs)
    ratio = median(pair[1].figures.tokens_per_second / pair[0].figures.tokens_per_second for pair in pairs)
    shown = [f"{speeds[0]:.1f}", f"{speeds[1]:.1f}", f"{ratio:.3f}", f"{firsts[0]:.1f}", f"{firsts[1]:.1f}"]
    table.add_row(str(count), *shown, f"{added:+.1f}", f"{cpu:.0f}")


async def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    table = Table("streams", "tokens/s direct", "ours", "ratio", "first token p50 ms", "ours", "added", "CPU µs/token")
    async with AsyncExitStack() as stack:
        if options.upstream:
            direct = Running(f"{options.upstream.removesuffix('/v1')}/v1", {})
        else:
            direct = await stack.enter_async_context(baseline(options.rate))
        ours = await stack.enter_async_context(cluster(ClusterShape(slots=128, upstream=direct.url)))
        for count in options.streams or STREAMS:
            add_row(table, count, await compare(direct, ours, count, options))
    Console(width=120).print(table)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", default="", help="URL of a server; it must answer to the model `simulated`")
    parser.add_argument("--streams", type=int, action="append", help="at once; 1, 16 and 64 if none is given")
    parser.add_argument("--tokens", type=int, default=50, help="of each stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=50.0, help="tokens/s of each stream of the scripted server")
    loop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
