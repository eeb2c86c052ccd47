"""The tests spread over several processes: `pytest -n auto -p tests.harness.spreading` (pytest-xdist).

It says which tests stay together, and in which order they begin. Tests of processes mostly wait, so a few more run at
once than there are cores. Each process has a Valkey and temporary folders of its own; the system gives the ports."""

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

APART = ("tests/faults/",)
"""Folders whose tests share nothing that is dear: each test goes to whoever is free."""
TOGETHER = ("tests/ui/", "tests/clients/")
"""Folders whose tests share what is dear: a browser, a cluster of processes. Elsewhere a file stays together."""
BEGINNING = ("tests/ui/", "tests/faults/", "tests/abuse/", "tests/story/", "tests/worker/engines/", "tests/clients/")
"""Folders with the longest tests, which begin first, so that none is alone at the end."""
MOST_PROCESSES = 6  # each may hold a model of half a gigabyte


class Spreading(LoadScopeScheduling):
    """Gives whoever is free the next test, file or folder."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def unit_of(nodeid: str) -> str:
    """Returns the name of what a test stays together with."""
    if nodeid.startswith(APART):
        return nodeid
    return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.partition("::")[0])


def place_of(nodeid: str) -> int:
    """Returns where in the order of the run a test stands: the lower, the earlier."""
    return next((at for at, folder in enumerate(BEGINNING) if nodeid.startswith(folder)), len(BEGINNING))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place_of(item.nodeid))


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """Returns what `-n auto` means: one more than there are cores."""
    return min(len(os.sched_getaffinity(0)) + 1, MOST_PROCESSES)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # else the files with the most tests would begin
    return Spreading(config, log)
