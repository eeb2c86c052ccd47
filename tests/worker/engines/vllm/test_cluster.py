"""vLLM's workers in a whole cluster: exact over HTTP, after kill -9, and after the death of vLLM's own process."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import httpx
import psutil
import pytest
import pytest_asyncio

from millstream.bench.chaos.fleet import Fleet
from millstream.bench.exactness import SETS, ExactnessBench, HeardAnswer
from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey
from tests.worker.engines.vllm.test_hosted import running

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200), pytest.mark.asyncio(loop_scope="module")]
TOKENS = 16
SETTINGS = {
    "engine": "vllm",
    "dtype": "float32",
    "max_model_len": "1024",
    "slots": "16",
    "engine_args": '["enforce-eager"]',
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(
    module_valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ExactnessBench]:
    """Two workers, which come back when they die."""
    url = module_valkey.url
    async with Fleet(tmp_path_factory.mktemp("fleet"), url, lease="2") as fleet, Broker(url) as broker:
        gateway = await fleet.gateway()
        for _ in range(2):
            await fleet.worker(supervised=True, **SETTINGS)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=None) as http:
            yield ExactnessBench(http, broker, TOKENS)


async def test_all_kinds_of_requests_at_once_say_what_each_says_alone(bench: ExactnessBench) -> None:
    together = await asyncio.gather(*(bench.ask(parameters) for parameters in SETS.values()))
    alone = [await bench.ask(parameters) for parameters in SETS.values()]
    assert [answer.said for answer in together] == [answer.said for answer in alone]
    assert not any(answer.error for answer in together)
    assert {answer.level for answer in alone} <= {"exact", ""}  # one that waited long has sent its head before


@pytest.mark.parametrize("name", ["seed, top_p", "frequency penalty", "JSON schema"])
async def test_after_kill_9_an_answer_goes_on_exactly_and_vllm_dies_too(bench: ExactnessBench, name: str) -> None:
    children = [child for worker in await pids(bench) for child in psutil.Process(worker).children(recursive=True)]
    _, counts = await bench.row(SETS[name], TOKENS // 2)
    assert counts["kills"] >= 1
    assert counts["equal"] == counts["kills"]
    assert sum(running(child.pid) for child in children) <= len(children) // 2


async def test_the_death_of_vllm_s_own_process_is_the_worker_s_death(bench: ExactnessBench) -> None:
    whole = await bench.ask(SETS["seed"])
    before, killed = set(await pids(bench)), list[int]()

    async def kill(id: str, answer: HeardAnswer) -> None:
        if answer.pieces >= TOKENS // 2 and not killed:
            for worker in before:
                [core] = [each for each in psutil.Process(worker).children() if "Engine" in each.name()]
                killed.append(core.pid)
            os.kill(killed[0], signal.SIGKILL)
            os.kill(killed[1], signal.SIGKILL)

    assert (await bench.ask(SETS["seed"], kill)).said == whole.said
    assert len(killed) == 2
    assert not before & set(await pids(bench))


async def pids(bench: ExactnessBench) -> list[int]:
    return [int(worker.details["pid"]) for worker in (await bench.model()).workers if worker.alive]
