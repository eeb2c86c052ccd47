"""Take a dead worker's jobs back at once, instead of when its lease runs out: its supervisor saw it die."""

import structlog

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.directory import WorkerInfo, census
from millstream.common.broker.workers import evict_now
from millstream.common.errors import Unavailable
from millstream.common.process.command import host_name
from millstream.common.process.supervise import ChildExit, OnExit

_log = structlog.stdlib.get_logger(part="supervisor")


def evictor(broker: Broker, max_attempts: int) -> OnExit:
    """Returns what a supervisor does when a worker of its own has ended."""

    async def on_exit(exit: ChildExit) -> None:
        if exit.status == 0:
            return  # it has withdrawn by itself
        try:
            for worker in await workers_of_process(broker, exit.pid):
                await evict_now(broker, worker.model, worker.id, max_attempts)
                _log.warning("worker_evicted", worker=worker.id, model=worker.model, status=exit.status)
        except Unavailable as error:
            _log.warning("worker_not_evicted", pid=exit.pid, reason=error.message)

    return on_exit


async def workers_of_process(broker: Broker, pid: int) -> list[WorkerInfo]:
    """Returns the workers a process of this machine has registered: one for each model it serves."""
    registered = [worker for model in await census(broker) for worker in model.workers]
    return [w for w in registered if w.details.get("pid") == str(pid) and w.details.get("host") == host_name()]
