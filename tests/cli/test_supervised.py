"""`millstream worker --supervise`: a worker that comes back, whose work does not wait for its lease's end."""

import subprocess
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest_asyncio

from millstream.cli.up.eviction import workers_of_process
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.directory import WorkerInfo, census
from millstream.common.process.command import own_command
from millstream.common.settings import child_environment
from tests.cli.up_process import gone
from tests.harness.support import wait_until

LEASE = ("--lease", "600")  # seconds: nothing here happens because a lease ran out


@pytest_asyncio.fixture
async def broker(redis_url: str) -> AsyncIterator[Broker]:
    async with Broker(redis_url) as broker:
        yield broker


@pytest_asyncio.fixture
async def supervisor(broker: Broker) -> AsyncIterator[psutil.Popen]:
    command = own_command("worker", "--engine", "simulated", "--model", "sim", "--supervise", *LEASE)
    with psutil.Popen(command, env=dict(child_environment(redis_url=broker.url)), stderr=subprocess.DEVNULL) as process:
        yield process
        if process.poll() is None:
            process.kill()


async def only_worker(broker: Broker, process: Any) -> WorkerInfo | None:
    """Returns the one worker registered, if it is a living child of the supervisor's."""
    registered = [worker for model in await census(broker) for worker in model.workers]
    children = {str(child.pid) for child in process.children(recursive=True)}
    return registered[0] if len(registered) == 1 and registered[0].details.get("pid") in children else None


async def test_it_comes_back_and_the_dead_one_is_evicted_at_once(broker: Broker, supervisor: Any) -> None:
    first = await wait_until(lambda: only_worker(broker, supervisor), within=60)
    assert first is not None
    psutil.Process(int(first.details["pid"])).kill()

    async def another() -> WorkerInfo | None:
        found = await only_worker(broker, supervisor)
        return found if found and found.id != first.id else None

    second = await wait_until(another, within=60)
    assert second is not None
    worker = psutil.Process(int(second.details["pid"]))
    supervisor.terminate()
    assert await wait_until(lambda: supervisor.poll() is not None, within=60)
    assert supervisor.returncode == 0
    assert gone(worker)
    assert await workers_of_process(broker, worker.pid) == []


async def test_the_worker_drains_when_its_supervisor_is_killed(broker: Broker, supervisor: Any) -> None:
    found = await wait_until(lambda: only_worker(broker, supervisor), within=60)
    assert found is not None
    worker = psutil.Process(int(found.details["pid"]))
    supervisor.kill()
    await wait_until(lambda: gone(worker), within=60)
    assert await workers_of_process(broker, worker.pid) == []  # it withdrew: nothing is left to run out


async def test_wrong_settings_end_it(broker: Broker) -> None:
    command = own_command("worker", "--supervise", "--slots", "0")
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--slots (or MILLSTREAM_SLOTS)" in ended.stderr
