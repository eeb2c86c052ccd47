"""`millstream models`, `workers` and `jobs`: what Redis knows, as tables."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from rich.console import Console
from rich.table import Table
from rich.text import Text

from millstream.cli.settings import JobsSettings, WorkersSettings
from millstream.common.broker.connection.by_server import look_at_each
from millstream.common.broker.connection.opening import open_broker
from millstream.common.broker.models.directory import ModelInfo, WorkerInfo, census, model_names
from millstream.common.broker.models.inspection import LiveJob, dead_jobs, live_jobs
from millstream.common.broker.models.load_requests import ModelLoader
from millstream.common.errors import Unavailable
from millstream.common.job import ModelName
from millstream.common.process.command import host_name
from millstream.common.process.readable_log import printable, printable_json
from millstream.common.settings import ClusterSettings

WIDE = 4096  # columns: a line too long for the terminal wraps, but no id is cut short


async def show_models(settings: ClusterSettings) -> None:
    """Prints every known model, its live workers and its queue."""
    async with open_broker(settings) as broker:
        models = await census(broker)
    rows = [_model_row(info) for info in models]
    print_table(
        ("model", "workers", "running", "slots", "waiting", "engine", "context"),
        rows,
        "No worker has ever announced a model.",
    )


async def show_workers(settings: WorkersSettings) -> int:
    """Prints every registered worker. Returns the exit status: 1 if asked for this machine's and none is alive."""
    async with open_broker(settings) as broker:
        models = await census(broker)
    workers = [worker for model in models for worker in model.workers]
    loaders = [(model.name, loader) for model in models for loader in model.loaders]
    if settings.here:
        workers = [worker for worker in workers if worker.details.get("host") == host_name()]
        loaders = [(model, loader) for model, loader in loaders if loader.host == host_name()]
    header = ("worker", "model", "state", "jobs", "tokens/s", "context", "fingerprint", "host", "pid")
    rows = [*map(_worker_row, workers), *(_loader_row(model, loader) for model, loader in loaders)]
    print_table(header, rows, "No worker is registered.")
    return int(settings.here and not loaders and not any(worker.alive for worker in workers))


async def show_jobs(settings: JobsSettings) -> None:
    """Prints the jobs that are queued or running, or with `failed` the poison jobs."""
    if settings.failed:
        return await _show_dead(settings)
    async with open_broker(settings) as broker:
        found, away = await look_at_each(broker, await model_names(broker), partial(live_jobs, broker))
        jobs = [job for some in found.values() for job in some]
    _tell_away(away)
    rows = [_job_row(job) for job in jobs]
    header = ("job", "model", "state", "worker", "tenant", "tier", "attempt", "chunks", "age", "deadline in")
    return print_table(header, rows, "No job is queued or running.")


async def _show_dead(settings: JobsSettings) -> None:
    async with open_broker(settings) as broker:
        found, away = await look_at_each(broker, await model_names(broker), partial(dead_jobs, broker))
        dead = [job for some in found.values() for job in some]
    _tell_away(away)
    console = Console(soft_wrap=True, highlight=False)  # a request is long: as it is, to be piped into other tools
    for job in dead:
        when = datetime.fromtimestamp(job.when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        told = printable(f"{when}  {job.id}  {job.model}  {job.tenant}: {job.reason}")
        console.print(f"{told}\n{printable_json(job.request)}\n", markup=False)
    if not dead:
        console.print("No job was given up.")


def live_or_away(info: ModelInfo) -> str:
    """Returns how many workers are alive, if the model's server could be asked."""
    return "Redis away" if info.away else str(info.live)


def _tell_away(away: Mapping[ModelName, Unavailable]) -> None:
    """Names the models whose jobs are not among those listed."""
    for model, error in away.items():
        print(f"{model}: {error.message}", file=sys.stderr)


def _model_row(info: ModelInfo) -> tuple[str, ...]:
    alive = [worker for worker in info.workers if worker.alive]
    load, slots = sum(worker.load for worker in alive), sum(worker.slots for worker in alive)
    return (
        info.name,
        live_or_away(info),
        str(load),
        str(slots),
        str(info.waiting),
        info.engine,
        str(info.context_length),
    )


def _worker_row(worker: WorkerInfo) -> tuple[str, ...]:
    state, jobs = worker.details.get("state", "alive") if worker.alive else "silent", f"{worker.load}/{worker.slots}"
    card = (str(worker.context_length or ""), worker.fingerprint)
    place = (worker.details.get("host", ""), worker.details.get("pid", ""))
    return (worker.id, worker.model, state, jobs, f"{worker.speed:.1f}", *card, *place)


def _loader_row(model: ModelName, loader: ModelLoader) -> tuple[str, ...]:
    return (loader.worker, model, "not loaded", "", "", "", "", loader.host, str(loader.pid))


def _job_row(job: LiveJob) -> tuple[str, ...]:
    figures = (str(job.attempt), str(job.seq), f"{job.age:.0f} s", f"{job.left:.0f} s")
    return (job.id, job.model, job.state, job.worker, job.tenant, job.tier, *figures)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]], if_none: str) -> None:
    """Prints rows under a header, or a sentence instead of none."""
    console = Console(soft_wrap=True, width=WIDE)
    table = Table(*header, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # names are data: nothing in them is obeyed
    console.print(table if table.row_count else if_none, markup=False)
