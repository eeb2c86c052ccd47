"""Measures how fairly and how quickly work is spread: `python -m bench.lab.fairness [shares|beside|tenants]`.

shares   workers of speeds 1:2:4 under Poisson arrivals: who serves how much, and the latency, by routing. Round robin
         and random are what a balancer without knowledge of the queues does: each worker has a queue of its own.
beside   seconds to the first token of chat, alone and beside a saturating batch load.
tenants  a tenant with a thousand jobs queued, and another's every single one.
"""

import asyncio
import itertools
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic

from millstream.bench.lab.in_process_cluster import InProcessCluster, Served, in_process_cluster, leave_work
from millstream.common.broker.models.policy import Policy, Rule, write_policy
from millstream.common.job import ModelName, Tier
from millstream.common.process import loop
from millstream.common.process.tasks import TaskGroup

SPEEDS = {"slow": 20.0, "mid": 40.0, "fast": 80.0}  # tokens/s of one job
SLOTS, TOKENS = 4, 80
CAPACITY = SLOTS * sum(SPEEDS.values()) / TOKENS  # jobs/s of all three
LOAD = 0.7  # of the capacity
SECONDS = 40.0
SHARED = "shared"  # the model all three serve

Choose = Callable[[], str]  # the model to ask: one for all, or one for each worker


def quantile(values: Sequence[float], part: float) -> float:
    """Returns the value below which `part` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


async def arrivals(rate: float, seconds: float, ask: Callable[[], Awaitable[Served]]) -> list[Served]:
    """Sends Poisson arrivals, the same ones each time; waits for every answer."""
    chance, began, at = random.Random(1), monotonic(), 0.0
    async with TaskGroup() as tasks:
        made: list[asyncio.Task[Served]] = []
        while (at := at + chance.expovariate(rate)) < seconds:
            await asyncio.sleep(max(0.0, began + at - monotonic()))
            made.append(tasks.create_task(_await(ask())))
    return [task.result() for task in made]


async def _await(answer: Awaitable[Served]) -> Served:
    return await answer


def report(name: str, served: Sequence[Served]) -> None:
    """Prints one line of the table."""
    tokens = Counter[str]()
    for each in served:
        tokens[each.worker.partition("-")[0]] += each.tokens
    shares = " : ".join(f"{tokens[worker] / max(1, tokens['slow']):.2f}" for worker in SPEEDS)
    lasts = [each.last for each in served]
    figures = " ".join(f"{quantile(lasts, part):7.2f}" for part in (0.5, 0.9, 0.99))
    print(f"{name:16} {len(served):5} {shares:>20} {figures}", flush=True)


async def shares(directory: Path) -> None:
    """Prints the table of routing rules."""
    print(f"speeds 1:2:4, {SLOTS} slots each, {TOKENS} tokens a job, {CAPACITY * LOAD:.0f} jobs/s ({LOAD:.0%})")
    print(f"{'routing':16} {'jobs':>5} {'shares':>20} {'p50 s':>7} {'p90 s':>7} {'p99 s':>7}")
    turn = itertools.cycle(SPEEDS)
    chance = random.Random(2)
    ways: dict[str, Choose] = {
        "round robin": lambda: next(turn),
        "random": lambda: chance.choice(list(SPEEDS)),
    }
    for name, choose in ways.items():
        async with in_process_cluster(directory / name) as place:
            for worker, rate in SPEEDS.items():
                await place.worker(worker, f"{worker}-1", slots=SLOTS, rate=rate)
            report(name, await _asked(place, choose))
    rules: tuple[Rule, ...] = ("lottery", "shortest_queue")
    for rule in rules:
        async with in_process_cluster(directory / rule) as place:
            for worker, rate in SPEEDS.items():
                await place.worker(SHARED, f"{worker}-1", slots=SLOTS, rate=rate)
            await write_policy(place.broker, ModelName(SHARED), Policy(rule))
            report(rule, await _asked(place, lambda: SHARED))
    await _saturated(directory)


async def _asked(place: InProcessCluster, choose: Choose) -> list[Served]:
    for model in {choose() for _ in range(9)}:  # every worker's speed is measured once
        await asyncio.gather(*(place.ask(model, TOKENS) for _ in range(SLOTS * len(SPEEDS))))
    return await arrivals(CAPACITY * LOAD, SECONDS, lambda: place.ask(choose(), TOKENS))


async def _saturated(directory: Path) -> None:
    """Opens as many jobs as fill every slot twice: each worker takes what it can."""
    async with in_process_cluster(directory / "saturated") as place:
        for worker, rate in SPEEDS.items():
            await place.worker(SHARED, f"{worker}-1", slots=SLOTS, rate=rate)
        ends = monotonic() + SECONDS
        served: list[Served] = []

        async def client() -> None:
            while monotonic() < ends:
                served.append(await place.ask(SHARED, TOKENS))

        await asyncio.gather(*(client() for _ in range(2 * SLOTS * len(SPEEDS))))
        report("saturated", served)


async def beside(directory: Path) -> None:
    """Prints the table of chat beside batch."""
    print(
        "2 workers of 4 slots, 50 tokens/s, 100 ms to the first token; chat: 6/s of 20 tokens; batch: 64 x 400 tokens"
    )
    print(f"{'batch load':30} {'chats':>5} {'p50 ms':>7} {'p90 ms':>7} {'p99 ms':>7}")
    cases: list[tuple[str, Tier | None, int]] = [
        ("none", None, 0),
        ("tier batch, preempted", "batch", 0),
        ("tier batch, 1 slot reserved", "batch", 1),
        ("as default, another tenant", "default", 0),
    ]
    for name, tier, reserve in cases:
        async with in_process_cluster(directory / name.replace(" ", "-")) as place:
            for worker in ("a", "b"):
                await place.worker(SHARED, worker, slots=4, rate=50, first_token=0.1)
            await write_policy(place.broker, ModelName(SHARED), Policy(reserve=reserve))
            served = await _chats(place, tier)
        firsts = [1000 * each.first for each in served]
        figures = " ".join(f"{quantile(firsts, part):7.0f}" for part in (0.5, 0.9, 0.99))
        print(f"{name:30} {len(served):5} {figures}", flush=True)


async def _chats(place: InProcessCluster, tier: Tier | None) -> list[Served]:
    """Chats for a while, beside more work than can be done meanwhile."""
    if tier is not None:
        await leave_work(place.broker, SHARED, tier, 64, 400)
    await asyncio.sleep(1)  # until it holds every slot
    return await arrivals(6.0, SECONDS, lambda: place.ask(SHARED, 20))


async def tenants(directory: Path) -> None:
    """Floods the queue with one tenant's jobs, while another asks now and then."""
    async with in_process_cluster(directory / "tenants") as place:
        await place.worker(SHARED, "a", slots=4, rate=100)
        alone = [(await place.ask(SHARED, TOKENS, tenant="small")).first for _ in range(20)]
        flood = [asyncio.create_task(place.ask(SHARED, TOKENS, tenant="big")) for _ in range(1000)]
        await asyncio.sleep(1)
        beside_it = [(await place.ask(SHARED, TOKENS, tenant="small")).first for _ in range(20)]
        waiting = sum(not task.done() for task in flood)
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
    print(f"first token of the small tenant: alone p50 {1000 * quantile(alone, 0.5):.0f} ms, beside {waiting}")
    print(f"jobs of another: p50 {1000 * quantile(beside_it, 0.5):.0f} ms, most {1000 * max(beside_it):.0f} ms")


PARTS: dict[str, Callable[[Path], Awaitable[None]]] = {"shares": shares, "beside": beside, "tenants": tenants}


def chosen(arguments: Sequence[str]) -> Iterator[str]:
    """Yields the parts asked for; all, if none is."""
    return (name for name in PARTS if not arguments or name in arguments)


async def main(arguments: Sequence[str]) -> None:
    """Runs the parts one after the other."""
    with tempfile.TemporaryDirectory() as directory:
        for name in chosen(arguments):
            await PARTS[name](Path(directory))
            print()


if __name__ == "__main__":
    loop.run(main(sys.argv[1:]))
