"""The `millstream` command. Each command's flags are the fields of its settings class."""

import asyncio
import signal
from importlib.metadata import PackageNotFoundError, version
from types import FrameType
from typing import Annotated

import typer

from millstream.bench.chaos.settings import ChaosSettings
from millstream.bench.command.settings import BenchSettings
from millstream.cli.flags import command_of
from millstream.cli.groups import keys_group, models_group
from millstream.cli.settings import (
    BatchesSettings,
    ChatSettings,
    DoctorSettings,
    JobsSettings,
    TopSettings,
    UpSettings,
    WorkersSettings,
)
from millstream.common.errors import MillstreamError
from millstream.common.settings import ClusterSettings
from millstream.gateway.background.settings import BackgroundSettings
from millstream.gateway.settings import GatewaySettings
from millstream.worker.settings import WorkerSettings

app = typer.Typer(
    name="millstream",
    help="An OpenAI-compatible inference cluster on Redis streams. Start with: millstream up",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # tracebacks go to the log as they are
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Is the entry point. Errors we know are one line on standard error and exit status 1; wrong usage is 2."""
    signal.signal(
        signal.SIGTERM, _leave
    )  # before the imports of a command: a container's first process ends no other way
    try:
        app()
    except MillstreamError as error:
        typer.secho(f"millstream: {error.message}", err=True, fg="red")
        raise SystemExit(1) from error


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _up(settings: UpSettings) -> None:
    from millstream.cli.up.up import run

    raise typer.Exit(run(settings))


def _gateway(settings: GatewaySettings) -> None:
    from millstream.gateway.serve import serve

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # uvicorn stops in good order, then raises the signal once more
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
    """Print the version."""
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


app.command("up")(command_of(UpSettings, "Start everything in this terminal: queue, gateway and workers.", _up))
app.command("gateway")(command_of(GatewaySettings, "Serve the OpenAI-compatible API.", _gateway))
app.command("worker")(command_of(WorkerSettings, "Serve a model: pull jobs, write chunks.", _worker))
app.command("background")(
    command_of(BackgroundSettings, "Work on batches, send webhooks, remove what has expired.", _background)
)
app.command("batches")(command_of(BatchesSettings, "List batches and watch them go on.", _batches))
app.command("chat")(command_of(ChatSettings, "Talk to a model in this terminal.", _chat))
app.command("bench")(
    command_of(BenchSettings, "Put load on any OpenAI-compatible server and time its answers.", _bench)
)
app.command("doctor")(command_of(DoctorSettings, "Find out why something does not work, and say what to do.", _doctor))
app.add_typer(models_group(), name="models")
app.add_typer(keys_group(), name="keys")
app.command("top")(command_of(TopSettings, "Watch workers, queues and waits live.", _top))
app.command("usage")(
    command_of(ClusterSettings, "Show what each API key has used, and each tenant of each model by day.", _usage)
)
app.command("workers")(command_of(WorkersSettings, "List the workers and what they carry.", _workers))
app.command("jobs")(command_of(JobsSettings, "List the jobs running and waiting, or those given up.", _jobs))
app.command("chaos")(command_of(ChaosSettings, "Kill, freeze and cut everything, and check every token.", _chaos))
app.command("version")(_version)


if __name__ == "__main__":
    main()
