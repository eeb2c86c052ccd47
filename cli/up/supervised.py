"""`millstream worker --supervise`: a worker that is started again when it dies, its jobs moved on at once."""

import asyncio
import signal
import sys

from millstream.cli.up.eviction import evictor
from millstream.common import telemetry
from millstream.common.broker.connection.opening import open_broker
from millstream.common.process.command import own_command
from millstream.common.process.stopping import on_stop_signals
from millstream.common.process.supervise import Child, GaveUp, Program
from millstream.common.process.tasks import TaskGroup
from millstream.worker.settings import WorkerSettings

STOP_MARGIN = 5.0  # seconds beyond the drain window until a worker that does not stop is killed


def run(settings: WorkerSettings) -> int:
    """Runs until SIGTERM or Ctrl-C; returns the exit status."""
    telemetry.configure(settings.log_format, settings.log_level, {"process": "supervisor"})
    return asyncio.run(_supervise(settings))


async def _supervise(settings: WorkerSettings) -> int:
    # Our own arguments again: the flag that comes last wins, also over the environment.
    program = Program("worker", own_command(*sys.argv[1:], "--no-supervise"), on_death=signal.SIGTERM)
    async with open_broker(settings) as broker, TaskGroup() as tasks:
        child = Child(program, _pass_on, evictor(broker, settings.max_attempts))
        child.ready()  # nobody watches a service start: restart it as often as it takes
        stopping = asyncio.Event()
        on_stop_signals(stopping.set)
        run = tasks.create_task(_run(child))
        stop = tasks.create_task(_stop(child, stopping, settings.drain + STOP_MARGIN))
        status = await run
        stop.cancel()
    return status


async def _run(child: Child) -> int:
    try:
        await child.run()
    except GaveUp as error:
        return error.exit.status
    return 0


async def _stop(child: Child, stopping: asyncio.Event, patience: float) -> None:
    await stopping.wait()
    await child.stop(patience)


def _pass_on(line: str) -> None:
    target = telemetry.LastingStream(sys.stderr)
    target.write(line + "\n")
    target.flush()
