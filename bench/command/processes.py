"""The costs of processes, read from the operating system: CPU seconds and memory, their children included."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from millstream.common.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of the processes of one name: CPU seconds (user and system) and resident bytes."""

    cpu: float
    memory: int


class Processes:
    """Named groups of processes, watched from now on."""

    def __init__(self, pids: Mapping[str, Sequence[int]]) -> None:
        self._groups = {name: [psutil.Process(pid) for pid in found] for name, found in pids.items()}

    def read(self) -> dict[str, Cost]:
        """Returns the cost so far, by name."""
        return {name: _sum([cost_of(process) for process in group]) for name, group in self._groups.items()}


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(sum(cost.cpu for cost in costs), sum(cost.memory for cost in costs))


def cost_of(process: psutil.Process) -> Cost:
    """Returns the cost of one process with its children, those that ended included."""
    try:
        family = [process, *process.children(recursive=True)]
        own = process.cpu_times()
        ended = own.children_user + own.children_system
        times = [each.cpu_times() for each in family]
        return Cost(
            ended + sum(each.user + each.system for each in times), sum(each.memory_info().rss for each in family)
        )
    except psutil.NoSuchProcess:
        return Cost(0.0, 0)


def spent(before: Mapping[str, Cost], after: Mapping[str, Cost]) -> dict[str, float]:
    """Returns the CPU seconds between two readings, by name."""
    return {name: max(0.0, after[name].cpu - before[name].cpu) for name in before if name in after}


def find(wanted: Sequence[str]) -> dict[str, list[int]]:
    """Returns for `name=pid` or `name=text` every process whose command line holds the text, but not the children of
    one that does. Raises `BadRequest` when none does."""
    found: dict[str, list[int]] = {}
    for each in wanted:
        name, _, what = each.partition("=")
        pids = [int(what)] if what.isdigit() else _matching(what)
        if not what or not pids or not all(map(psutil.pid_exists, pids)):
            raise BadRequest(
                f"No process for `{each}`: give name=pid or name=text of its command line.", param="process"
            )
        found[name] = pids
    return found


def _matching(text: str) -> list[int]:
    hits = {
        process.pid: process.ppid()
        for process in psutil.process_iter()
        if process.pid != os.getpid() and text in _command(process)
    }
    return [pid for pid, parent in hits.items() if parent not in hits]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
