"""Signals to worker processes of the gateway's own machine, for a cluster in one terminal."""

import os
import signal
from typing import Literal

import psutil
import structlog

from millstream.common.broker.models.directory import WorkerInfo
from millstream.common.broker.models.overview import Overview
from millstream.common.errors import BadRequest, Forbidden, NotFound
from millstream.common.process.command import host_name

LocalVerb = Literal["kill", "drain"]
SIGNALS: dict[LocalVerb, signal.Signals] = {"kill": signal.SIGKILL, "drain": signal.SIGTERM}
log = structlog.stdlib.get_logger(part="workers")


def signal_worker(worker: str, verb: LocalVerb, found: Overview, *, allowed: bool) -> None:
    """Sends the worker's process a signal. Raises `Forbidden` where that is not allowed, `NotFound` for a worker that
    is not alive, `BadRequest` for one of another machine."""
    if not allowed:
        raise Forbidden(
            "This gateway does not signal workers. The setting local_workers (MILLSTREAM_LOCAL_WORKERS) lets it signal "
            "those of its own machine; `millstream up` sets it."
        )
    pid = pid_of(worker, [each for model in found.models for each in model.info.workers])
    log.warning("worker_signalled", worker=worker, verb=verb, pid=pid)
    os.kill(pid, SIGNALS[verb])


def pid_of(worker: str, workers: list[WorkerInfo]) -> int:
    """Returns the process of a live worker of this machine."""
    info = next((each for each in workers if each.id == worker and each.alive), None)
    if info is None:
        raise NotFound(f"There is no live worker '{worker[:80]}'.", param="worker")
    pid = int(info.details.get("pid") or 0)
    if info.details.get("host") != host_name() or not is_worker(pid):
        raise BadRequest(f"The worker '{worker[:80]}' does not run on this gateway's machine.", param="worker")
    return pid


def is_worker(pid: int) -> bool:
    """Tells whether the process is a worker of ours: what a heartbeat says alone is no reason to signal it."""
    try:
        command = psutil.Process(pid).cmdline() if pid > 1 else []
    except psutil.Error:
        return False
    return "worker" in command and any("millstream" in word for word in command)
