"""Prints in two minutes how much our parts cost beside a plain server and a bare loop, and fails if it got much more.

    python -m bench.quick             # exit status 1 beyond 1.3 times the committed ratios
    python -m bench.quick --commit    # writes the ratios of this run in place of the committed ones

Every ratio is of one run, of processor time, both sides in turns, and the median of the rounds: so a machine that
others use, or a slower one, changes it little. `make bench-quick` runs it.
"""

import argparse
from statistics import median

from rich.console import Console
from rich.table import Table

from millstream.bench.command.settings import BenchSettings
from millstream.bench.harness.cluster import ClusterShape, Running, baseline, cluster
from millstream.bench.harness.measurement import Trial, streams, trial
from millstream.bench.harness.own_process import result_of
from millstream.bench.quick.gate import ALLOWED, commit, committed, too_slow
from millstream.common.process import loop

STREAMS, TOKENS, SHORT = 64, 100, 4
ROUNDS = 5
PARTS = ("gateway", "redis", "worker")


async def in_turns(base: Running, ours: Running, load: BenchSettings) -> list[tuple[Trial, Trial]]:
    """Measures both sides in each round."""
    return [(await trial(base, load), await trial(ours, load)) for _ in range(ROUNDS)]


async def serving() -> dict[str, float]:
    """Returns the cost of our processes as a share of a direct server's: of long answers by process, and of short ones,
    which are almost nothing but their request, in all."""
    async with baseline() as base, cluster(ClusterShape()) as ours:
        for server in (base, ours):  # connections, caches and the scripts' first loading are not what is measured
            await trial(server, streams(STREAMS, 8))
        long = await in_turns(base, ours, streams(STREAMS, TOKENS))
        short = await in_turns(base, ours, streams(STREAMS // 4, SHORT, rounds=32))
    found = {
        f"{part} per token of a stream / direct server": median(own.cpu[part] / direct.total for direct, own in long)
        for part in PARTS
    }
    found["a short request in all / direct server"] = median(own.total / direct.total for direct, own in short)
    return found


def measured() -> dict[str, float]:
    """Returns all ratios by name."""
    step = result_of("millstream.bench.quick.step", [], "The step's measurement")
    return loop.run(serving()) | {"a token of one stream on a CPU / bare loop": step["ratio"]}


def table(found: dict[str, float], before: dict[str, float], slow: list[str]) -> Table:
    """Returns the ratios beside the committed ones."""
    shown = Table("ratio of processor time", "now", "committed", f"at most {ALLOWED} x")
    for name, ratio in found.items():
        known = f"{before[name]:.2f}" if name in before else "none"
        shown.add_row(name, f"{ratio:.2f}", known, "TOO SLOW" if name in slow else "good")
    return shown


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", action="store_true", help="write the ratios of this run as those to keep")
    given = parser.parse_args()
    found, before = measured(), committed()
    slow = [] if given.commit else too_slow(found, before)
    Console().print(table(found, before, slow))
    if given.commit:
        commit(found)
    raise SystemExit(1 if slow else 0)


if __name__ == "__main__":
    main()
