"""Measures what each Redis server pays when three models lie in one, two or three of them:
`python -m bench.lab.queue.redis_servers`.

One machine with few cores cannot be made to reach the ceiling of several servers, so it is computed: all tokens, by the
processor time of the busiest server, are the tokens/s at which that server's one core would be full.
"""

import argparse
import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from millstream.bench.command.load import Load
from millstream.bench.command.processes import Processes, spent
from millstream.bench.command.settings import BenchSettings
from millstream.bench.command.statistics import summed
from millstream.bench.harness.cluster import process, until_it_answers
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey, free_port
from millstream.common.broker.models.directory import census
from millstream.common.process import loop
from millstream.common.process.command import own_command

MODELS = ("model-0", "model-1", "model-2")
MOST = len(MODELS)


@asynccontextmanager
async def spread(servers: int) -> AsyncGenerator[tuple[str, dict[str, list[int]]]]:
    """Starts the servers, a gateway, and a worker of each model; yields the base URL and the servers' processes."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="millstream-bench-")))
        started = [await stack.enter_async_context(EmbeddedValkey(folder / str(at))) for at in range(servers)]
        home, places = started[0].url, [started[at % servers].url for at in range(MOST)]
        told = ",".join(f"{name}={url}" for name, url in zip(MODELS, places, strict=True) if url != home)
        where, port = {"redis_url": home, "model_redis": told}, free_port()
        gateway = own_command("gateway", "--port", str(port), "--max-waiting", "0", "--max-waiting-tenant", "0")
        child = await stack.enter_async_context(process(gateway, **where))
        pace = ["--engine", "simulated", "--simulated-rate", "50", "--slots", "1024", "--drain", "0"]
        for name in MODELS:
            await stack.enter_async_context(process(own_command("worker", *pace, "--served-model-name", name), **where))
        await until_it_answers(f"http://127.0.0.1:{port}/health", child)
        async with Broker(home, model_redis=told) as broker:
            while sum(info.live for info in await census(broker)) < MOST:  # noqa: ASYNC110 (Redis rings no event)
                await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", {f"redis-{at}": [valkey.pid] for at, valkey in enumerate(started)}


async def measure(servers: int, streams: int, tokens: int, rounds: int) -> tuple[float, dict[str, float]]:
    """Returns tokens/s, and each server's microseconds of processor time by token of the whole cluster: medians."""
    rates: list[float] = []
    costs: dict[str, list[float]] = {}
    async with spread(servers) as (url, pids):
        processes = Processes(pids)
        asked = BenchSettings(
            base_url=url, concurrency=streams, requests=streams, output_tokens=tokens, duration=600, timeout=120
        )
        for turn in range(rounds + 1):
            before, began = processes.read(), loop_time()
            answers = await asyncio.gather(*(Load(asked, name).run() for name in MODELS))
            took, after = loop_time() - began, processes.read()
            told = summed([answer for each in answers for answer in each]).tokens
            if turn:  # the first loads scripts and opens connections
                rates.append(told / took)
                for name, seconds in spent(before, after).items():
                    costs.setdefault(name, []).append(seconds / told * 1e6)
    return median(rates), {name: median(values) for name, values in costs.items()}


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def compare(streams: int, tokens: int, rounds: int) -> Table:
    """Measures one server, then two, then three."""
    shown = Table("servers", "tokens/s", "CPU us a token, by server", "tokens/s at which the busiest is full")
    for servers in range(1, MOST + 1):
        rate, costs = await measure(servers, streams, tokens, rounds)
        told = ", ".join(f"{cost:.1f}" for cost in costs.values())
        shown.add_row(str(servers), f"{rate:.0f}", told, f"{1e6 / max(costs.values()):.0f}")
    return shown


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description="Three models in one, two and three Redis servers.")
    parser.add_argument("--streams", type=int, default=16, help="of each model")
    parser.add_argument("--tokens", type=int, default=200, help="of each stream")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    Console().print(loop.run(compare(given.streams, given.tokens, given.rounds)))


if __name__ == "__main__":
    main()
