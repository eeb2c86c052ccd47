"""`millstream bench`: a run with its progress, and the report at the end."""

from time import monotonic

from rich.console import Console
from rich.status import Status

from millstream.bench.command.load import LoadProgressShown, measured
from millstream.bench.command.plot import plot
from millstream.bench.command.processes import Processes, find, spent
from millstream.bench.command.report import Report
from millstream.bench.command.settings import BenchSettings
from millstream.bench.command.statistics import summed
from millstream.common.errors import Unavailable
from millstream.common.process import loop


def run(settings: BenchSettings) -> int:
    """Runs the command and returns its exit status: 1 if any request failed. Raises `MillstreamError` for what cannot
    be measured."""
    console = Console()
    processes = Processes(find(settings.process))
    with Status("connecting", console=console) as status:
        before, began = processes.read(), monotonic()

        def watch(progress: LoadProgressShown) -> None:
            status.update(_line(progress, settings, monotonic() - began))

        answers = loop.run(measured(settings, watch))
    report = Report(summed(answers), spent(before, processes.read()))
    if settings.json_file is not None:
        report.save(settings.json_file)
    if answers and all(answer.error for answer in answers):
        raise Unavailable(f"None of {len(answers)} requests was answered by {settings.base_url}: {answers[0].error}")
    report.show(console)
    if settings.plot_file is not None:
        plot(answers, settings.plot_file)
    return 1 if report.figures.errors else 0


def _line(progress: LoadProgressShown, settings: BenchSettings, seconds: float) -> str:
    done = len(progress.answers)
    tokens = sum(answer.count for answer in progress.answers)
    failed = sum(1 for answer in progress.answers if answer.error)
    return (
        f"{seconds:.0f} s: {done} of {settings.requests} answered, {progress.sent - done} open, {failed} failed, "
        f"{tokens / max(seconds, 0.1):.0f} tokens/s"
    )
