"""The one place where the kinds of engines are told apart."""

from collections.abc import Callable

from millstream.common.broker.connection.broker import Broker
from millstream.worker.engines.base import Engine, ModelCard
from millstream.worker.jobs.drivers.computing import ComputingDriver
from millstream.worker.jobs.drivers.driver import Driver, JobControl
from millstream.worker.jobs.drivers.text import TextDriver
from millstream.worker.jobs.drivers.tokens import TokenDriver
from millstream.worker.jobs.running_jobs import RunningJobs
from millstream.worker.text.parsers.formats import CallFormat

DriverOf = Callable[[JobControl], Driver]


def driver_of(
    engine: Engine, card: ModelCard, broker: Broker, running_jobs: RunningJobs, notation: CallFormat | None = None
) -> DriverOf:
    """Returns what makes the driver of an engine, as soon as there is somebody to whom it tells what becomes of the
    jobs. `notation` is how tool calls are written, if not as the chat template teaches."""

    def made(control: JobControl) -> Driver:
        if engine.kind == "tokens":
            return TokenDriver(engine, card, broker, running_jobs, control, notation)
        if engine.kind == "text":
            return TextDriver(engine, card, running_jobs, control)
        return ComputingDriver(engine, card, control)

    return made
