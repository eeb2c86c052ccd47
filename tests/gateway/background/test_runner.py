"""arq and the module that hides it: what is asked for is done, whatever becomes of Redis in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from millstream.common.errors import Unavailable
from millstream.gateway.background import arq_worker
from millstream.gateway.background.arq_worker import ArqQueue, ArqRunner, Task
from tests.harness.support import wait_until


@asynccontextmanager
async def running(url: str, *tasks: Task) -> AsyncIterator[ArqRunner]:
    runner = ArqRunner(url, ArqQueue("arq:test", 4, 5.0, tasks))
    work = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def asked(runner: ArqRunner, task: str, word: str) -> bool:
    try:
        await runner.ask(task, word, id=f"{task}:{word}")
    except Unavailable:
        return False
    return True


async def test_only_a_task_that_insists_is_tried_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arq_worker, "RETRY_AFTER", 0.05)
    tries = {"insists": 0, "yields": 0}

    async def fail(word: str) -> None:
        tries[word] += 1
        if tries[word] < 3:
            raise Unavailable("not now")

    tasks = (Task("insisting", fail, insist=True), Task("yielding", fail))
    async with running(redis_url, *tasks) as runner:
        await wait_until(lambda: asked(runner, "yielding", "yields"), what="it is connected")
        await asked(runner, "insisting", "insists")
        await wait_until(lambda: tries["insists"] == 3, what="the third try")
    assert tries == {"insists": 3, "yields": 1}


def test_a_redis_that_arq_cannot_use() -> None:
    for url in ("redis+cluster://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(ValueError, match=r"Cluster|expected one of"):
            ArqRunner(url, ArqQueue("arq:test", 4, 5.0, ()))
