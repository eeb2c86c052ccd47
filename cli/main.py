"""The `millstream` command. Each command's flags are the fields of its settings class."""

import asyncio
import signal
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from types import FrameType
from typing import Annotated, TypeVar

import typer
from pydantic_settings import BaseSettings

from millstream.bench.chaos.settings import ChaosSettings
from millstream.bench.command.settings import BenchSettings
from millstream.cli.flags import StartedParts, command_of
from millstream.cli.groups import keys_group, models_group
from millstream.cli.help import WIDEST, HelpCommand, HelpGroup
from millstream.cli.secret_flags import hide_secrets
from millstream.cli.settings import (
    BatchesSettings,
    ChatSettings,
    DoctorSettings,
    JobsSettings,
    TopSettings,
    UpSettings,
    WorkersSettings,
)
from millstream.common.settings import ClusterSettings
from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.settings import GatewaySettings
from millstream.worker.settings import WorkerSettings

S = TypeVar("S", bound=BaseSettings)

app = typer.Typer(
    name="millstream",
    help="An OpenAI-compatible inference cluster on Redis streams. Start with: millstream up",
    no_args_is_help=True,
    cls=HelpGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # tracebacks go to the log as they are
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
)


def main() -> None:
    """Is the entry point. Errors are one line on standard error: exit status 2 for wrong usage, 1 for what we know, 70
    for a fault of our own."""
    signal.signal(
        signal.SIGTERM, _leave
    )  # before the imports of a command: a container's first process ends no other way
    hide_secrets()
    try:
        app()
    except Exception as error:  # noqa: BLE001 (whatever it is, a user gets a sentence)
        from millstream.cli.faults import tell

        raise SystemExit(tell(error)) from None


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _as_if_stopped(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)


def _up(settings: UpSettings) -> None:
    from millstream.cli.up.up import run

    raise typer.Exit(run(settings))


def _gateway(settings: GatewaySettings) -> None:
    from millstream.gateway.serve import serve

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # uvicorn stops in good order, then raises the signal once more
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # its terminal is gone, and it runs without `nohup`
        signal.signal(signal.SIGHUP, _as_if_stopped)
    raise typer.Exit(serve(settings))


def _worker(settings: WorkerSettings) -> None:
    if settings.supervise:
        from millstream.cli.up.supervised import run

        raise typer.Exit(run(settings))
    from millstream.worker.app import serve

    raise typer.Exit(serve(settings))


def _background(settings: BackgroundSettings) -> None:
    from millstream.gateway.background.app import serve

    raise typer.Exit(serve(settings))


def _batches(settings: BatchesSettings) -> None:
    from millstream.cli.inspect.batches import run

    raise typer.Exit(run(settings))


def _chat(settings: ChatSettings) -> None:
    from millstream.cli.chat import run

    raise typer.Exit(run(settings))


def _bench(settings: BenchSettings) -> None:
    from millstream.bench.command.command import run

    raise typer.Exit(run(settings))


def _doctor(settings: DoctorSettings) -> None:
    from millstream.cli.inspect.doctor import run

    raise typer.Exit(run(settings))


def _top(settings: TopSettings) -> None:
    from millstream.cli.inspect.top import run

    run(settings)


def _usage(settings: ClusterSettings) -> None:
    from millstream.cli.admin.keys import show_usage
    from millstream.cli.inspect.usage_by_day import show_days

    asyncio.run(show_usage(settings))
    asyncio.run(show_days(settings))


def _workers(settings: WorkersSettings) -> None:
    from millstream.cli.inspect.tables import show_workers

    raise typer.Exit(asyncio.run(show_workers(settings)))


def _jobs(settings: JobsSettings) -> None:
    from millstream.cli.inspect.tables import show_jobs

    asyncio.run(show_jobs(settings))


def _chaos(settings: ChaosSettings) -> None:
    from millstream.bench.chaos.chaos import run

    raise typer.Exit(run(settings))


def _version() -> None:
    """Prints the version."""
    try:
        typer.echo(version("millstream"))
    except PackageNotFoundError:
        typer.echo("unknown (not installed as a package)")


def _show_version(wanted: bool) -> None:
    if wanted:
        _version()
        raise typer.Exit


@app.callback()
def _options(  # pyright: ignore[reportUnusedFunction] (typer calls it)
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


EXAMPLES = {
    "up": "millstream up --model Qwen/Qwen3-0.6B --workers 2",
    "gateway": "millstream gateway --redis-url redis://:PASSWORD@10.0.0.5:6379/0 --host 0.0.0.0 --require-keys",
    "worker": "millstream worker --redis-url redis://:PASSWORD@10.0.0.5:6379/0 --model Qwen/Qwen3-8B --slots 32",
    "background": "millstream background --webhooks '*=https://example.com/hook'",
    "batches": "millstream batches --no-watch",
    "chat": "millstream chat --model smollm2-135m-instruct --temperature 0.7",
    "bench": "millstream bench --base-url http://127.0.0.1:8000/v1 --model smollm2-135m-instruct",
    "doctor": "millstream doctor --gateway-url http://127.0.0.1:8000",
    "top": "millstream top --every 2",
    "usage": "millstream usage",
    "workers": "millstream workers --here",
    "jobs": "millstream jobs --failed",
    "chaos": "millstream chaos --seconds 60",
}


def _add(name: str, settings: type[S], tells: str, run: Callable[[S], None], parts: StartedParts | None = None) -> None:
    command = command_of(settings, tells, run, parts=parts or {})
    app.command(name, cls=HelpCommand, epilog=f"Example: {EXAMPLES[name]}")(command)


PARTS = {"The workers": WorkerSettings, "The gateway": GatewaySettings, "The background process": BackgroundSettings}
_add("up", UpSettings, "Start everything in this terminal: queue, gateway and workers.", _up, PARTS)
_add("gateway", GatewaySettings, "Serve the OpenAI-compatible API.", _gateway)
_add("worker", WorkerSettings, "Serve a model: pull jobs, write chunks.", _worker)
_add("background", BackgroundSettings, "Work on batches, send webhooks, remove what has expired.", _background)
_add("batches", BatchesSettings, "List batches and watch them go on.", _batches)
_add("chat", ChatSettings, "Talk to a model in this terminal.", _chat)
_add("bench", BenchSettings, "Put load on any OpenAI-compatible server and time its answers.", _bench)
_add("doctor", DoctorSettings, "Find out why something does not work, and say what to do.", _doctor)
app.add_typer(models_group(), name="models")
app.add_typer(keys_group(), name="keys")
_add("top", TopSettings, "Watch workers, queues and waits live.", _top)
_add("usage", ClusterSettings, "Show what each key and each tenant has used.", _usage)
_add("workers", WorkersSettings, "List the workers and what they carry.", _workers)
_add("jobs", JobsSettings, "List the jobs running and waiting, or those given up.", _jobs)
_add("chaos", ChaosSettings, "Kill, freeze and cut everything, and check every token.", _chaos)
app.command("version", cls=HelpCommand)(_version)


if __name__ == "__main__":
    main()
