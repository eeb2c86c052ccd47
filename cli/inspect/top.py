"""`millstream top`: workers, queues and waits, live in the terminal."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from millstream.cli.inspect.tables import WIDE, live_or_away
from millstream.cli.settings import TopSettings
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.connection.by_server import look_at_each
from millstream.common.broker.connection.opening import open_broker
from millstream.common.broker.models.directory import ModelInfo, WorkerInfo, census
from millstream.common.broker.models.inspection import Queue, queues
from millstream.common.broker.models.policy import Policy, read_policy
from millstream.common.errors import Unavailable
from millstream.common.job import ModelName
from millstream.gateway.queue.wait_estimate import service


@dataclass(frozen=True, slots=True)
class TopView:
    """Everything at one moment. `at` is monotonic seconds."""

    at: float
    models: Sequence[ModelInfo]
    queues: Mapping[ModelName, Sequence[Queue]]
    policies: Mapping[ModelName, Policy]

    def tokens(self) -> dict[str, int]:
        """Returns the tokens each worker has made so far."""
        return {
            f"{worker.model} {worker.id}": int(worker.details.get("tokens") or 0)
            for info in self.models
            for worker in info.workers
        }


async def look(broker: Broker) -> TopView:
    """Raises `RedisAway`."""
    models = await census(broker)
    reached = [info.name for info in models if not info.away]
    waiting, _ = await look_at_each(broker, reached, partial(queues, broker))
    policies, _ = await look_at_each(broker, reached, partial(read_policy, broker))
    return TopView(monotonic(), models, waiting, policies)


def rates(now: TopView, before: TopView | None) -> dict[str, float]:
    """Returns the tokens/s of each worker between two looks; what it measured itself where there is only one."""
    if before is None or now.at <= before.at:
        return {}
    then, elapsed = before.tokens(), now.at - before.at
    return {id: max(0.0, (made - then.get(id, made)) / elapsed) for id, made in now.tokens().items()}


def wait_of(info: ModelInfo) -> str:
    """Returns how long the last one in the queue waits, from the workers' measured time of a job."""
    rate = service(info).rate
    if not info.waiting:
        return "-"
    return f"{info.waiting / rate:.1f} s" if rate else "unknown"


def screen(now: TopView, before: TopView | None) -> RenderableType:
    """Returns the whole view."""
    made = rates(now, before)
    return Group(_models(now, made), Text(), _workers(now, made), Text(), _queues(now))


def _models(now: TopView, made: Mapping[str, float]) -> Table:
    table = _table("model", "policy", "workers", "running", "slots", "waiting", "tokens/s", "wait")
    for info in now.models:
        alive = [worker for worker in info.workers if worker.alive]
        load, slots = sum(worker.load for worker in alive), sum(worker.slots for worker in alive)
        speed = sum(made.get(f"{info.name} {worker.id}", 0.0) for worker in alive)
        figures = (str(load), str(slots), str(info.waiting), f"{speed:.1f}", wait_of(info))
        rule = now.policies[info.name].rule if info.name in now.policies else ""
        table.add_row(*map(Text, (info.name, rule, live_or_away(info), *figures)))
    return table


def _workers(now: TopView, made: Mapping[str, float]) -> Table:
    table = _table("worker", "model", "state", "load", "", "tokens/s", "speed", "KV", "prefix hits", "host")
    for info in now.models:
        for worker in info.workers:
            table.add_row(*map(Text, _worker_row(worker, made.get(f"{info.name} {worker.id}", 0.0))))
    return table


def _worker_row(worker: WorkerInfo, made: float) -> tuple[str, ...]:
    state = worker.details.get("state", "") if worker.alive else "silent"
    filled = round(10 * min(worker.load, worker.slots) / worker.slots) if worker.slots else 0
    bar = "█" * filled + "░" * (10 - filled)
    kv, hits = (float(worker.details.get(name) or 0) for name in ("kv_use", "prefix_hit_rate"))
    figures = (f"{made:.1f}", f"{worker.speed:.1f}", f"{kv:.0%}", f"{hits:.0%}")
    return (
        worker.id,
        worker.model,
        state,
        f"{worker.load}/{worker.slots}",
        bar,
        *figures,
        worker.details.get("host", ""),
    )


def _queues(now: TopView) -> RenderableType:
    table = _table("queue", "tier", "tenant", "waiting", "served (tokens / weight)")
    for model, found in now.queues.items():
        for queue in found:
            served = "" if queue.served is None else f"{queue.served:.0f}"
            table.add_row(*map(Text, (model, queue.tier, queue.tenant, str(queue.waiting), served)))
    return table if table.row_count else Text("Nothing waits.")


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="bold")


def run(settings: TopSettings) -> None:
    """Runs the command; Ctrl-C ends it."""
    try:
        asyncio.run(watch(settings))
    except KeyboardInterrupt:
        return


async def watch(settings: TopSettings) -> None:
    """Shows the cluster again and again. Raises `RedisAway` if even the first look fails."""
    async with open_broker(settings) as broker:
        now = await look(broker)
        if settings.once or not sys.stdout.isatty():
            Console(soft_wrap=True, width=WIDE).print(screen(now, None))
            return
        with Live(screen(now, None), screen=True, auto_refresh=False) as live:
            before = now
            while True:
                await asyncio.sleep(settings.every)
                try:
                    now = await look(broker)
                except Unavailable as error:
                    live.update(Text(f"Waiting for the queue: {error.message}"), refresh=True)
                    continue
                live.update(screen(now, before), refresh=True)
                before = now
