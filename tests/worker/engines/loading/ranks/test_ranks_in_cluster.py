"""Workers of two processes in a whole cluster: one worker each, whose processes die together, and whose jobs move."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import cast

import httpx
import psutil
import pytest
import pytest_asyncio

from millstream.bench.chaos.fleet import Fleet
from millstream.bench.exactness import ExactnessBench, HeardAnswer
from millstream.common.broker import keys
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from millstream.common.broker.models.directory import census
from millstream.common.job import JobId
from millstream.common.process.command import own_command
from millstream.common.process.leash import leashed
from millstream.common.settings import child_environment
from tests.harness.support import wait_until

pytestmark = [pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]
TOKENS = 300
GREEDY = {"temperature": 0, "ignore_eos": True}
LEASE = "120"  # seconds: far longer than the tests wait, so that jobs move because a death was noticed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(
    module_valkey: EmbeddedValkey, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ExactnessBench]:
    """Two workers of two processes each, which come back when they die."""
    settings = {"engine": "transformers", "model": str(tiny_folder), "tensor_parallel": "2", "threads": "1"}
    url = module_valkey.url
    async with Fleet(tmp_path_factory.mktemp("fleet"), url, lease=LEASE) as fleet, Broker(url) as broker:
        gateway = await fleet.gateway()
        for _ in range(2):
            await fleet.worker(supervised=True, **settings)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=None) as http:
            yield ExactnessBench(http, broker, TOKENS)


async def pids(bench: ExactnessBench) -> dict[str, int]:
    """Returns the process of each worker that is announced in Redis."""
    return {worker.id: int(worker.details["pid"]) for worker in (await bench.model()).workers if worker.alive}


def follower_of(pid: int) -> psutil.Process:
    [follower] = [child for child in psutil.Process(pid).children() if "ranks.follower" in " ".join(child.cmdline())]
    return follower


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def killed_in_the_middle(bench: ExactnessBench, followers: bool) -> tuple[HeardAnswer, str, psutil.Process]:
    """Returns an answer one of whose two processes was killed, what was heard before, and the other process."""
    before: list[tuple[str, psutil.Process]] = []

    async def kill(id: str, answer: HeardAnswer) -> None:
        if answer.pieces >= 10 and not before:
            name = (await bench.model()).name
            holder = await cast(Awaitable[str], bench.broker.redis.hget(keys.job(name, JobId(id)), "worker"))
            leader = psutil.Process((await pids(bench))[holder])
            follower = follower_of(leader.pid)
            os.kill(follower.pid if followers else leader.pid, signal.SIGKILL)
            before.append((answer.text, leader if followers else follower))

    answer = await bench.ask(GREEDY, kill)
    [(text, other)] = before
    return answer, text, other


@pytest.mark.parametrize("followers", [True, False], ids=["a later rank", "rank 0"])
async def test_after_kill_9_of_a_rank_nothing_is_lost_or_repeated(bench: ExactnessBench, followers: bool) -> None:
    """The other process of the worker ends too: it serves no more, and is nobody's orphan."""
    whole = await bench.ask(GREEDY)
    assert not whole.error
    assert len(set((await pids(bench)).values())) == 2
    answer, heard, other = await killed_in_the_middle(bench, followers)
    assert (answer.error, answer.said) == ("", whole.said)
    assert heard and len(heard) < len(whole.text) and whole.text.startswith(heard)
    await wait_until(lambda: gone(other), within=60, what="the other process ends")


async def test_of_torchruns_processes_one_is_a_worker(
    module_valkey: EmbeddedValkey, tiny_folder: Path, tmp_path: Path
) -> None:
    url = f"{module_valkey.url.rsplit('/', 1)[0]}/3"
    told = {"redis_url": url, "engine": "transformers", "model": str(tiny_folder), "threads": "1", "lease": "5"}
    script = tmp_path / "worker.py"
    script.write_text(own_command()[3])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    async with Fleet(tmp_path / "fleet", url, lease="5") as fleet, Broker(url) as broker:
        gateway = await fleet.gateway()
        with (tmp_path / "log").open("wb") as log:
            command = leashed([*launch, "worker"], signal.SIGTERM)
            launched = await asyncio.create_subprocess_exec(
                *command, env=child_environment(**told), stdout=log, stderr=log
            )
        async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as http:
            await wait_until(lambda: census(broker), within=120, what="a worker announces itself")
            body = {"model": tiny_folder.name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
            answers = [http.post("/v1/chat/completions", json=body) for _ in range(6)]
            assert {answer.status_code for answer in await asyncio.gather(*answers)} == {200}
        [info] = await census(broker)
        assert (info.live, info.workers[0].details["tensor_parallel"]) == (1, "2")
        processes = psutil.Process(launched.pid).children(recursive=True)
        launched.terminate()
        await launched.wait()
        await wait_until(lambda: all(map(gone, processes)), within=60, what="all ranks end")
