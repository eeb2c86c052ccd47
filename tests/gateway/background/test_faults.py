"""A batch whose workers, background processes, gateways and Redis die: every line's answer once, and the right one."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from millstream.common.broker.embedded import EmbeddedValkey, free_port
from tests.gateway.background.processes import BackgroundProcesses, processes
from tests.harness.support import wait_until

LINES = 200
pytestmark = pytest.mark.timeout(400)  # a safety net for a busy machine; it takes half a minute
PACE = ["--engine", "simulated", "--simulated-rate", "150", "--simulated-length", "12", "--slots", "4"]


def lines() -> bytes:
    return b"".join(
        json.dumps(
            {
                "custom_id": f"line-{n}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "simulated", "seed": 7, "messages": [{"role": "user", "content": f"question {n}"}]},
            }
        ).encode()
        + b"\n"
        for n in range(LINES)
    )


async def faults(cluster: BackgroundProcesses, valkey: EmbeddedValkey, client: openai.AsyncOpenAI, batch: str) -> None:
    """One after the other, each when the batch has gone on a little since the last."""

    async def progress(least: int) -> None:
        await wait_until(lambda: _progressed(client, batch, least), within=150, every=0.1, what=f"{least} lines")

    await progress(20)
    cluster.kill("background")
    cluster.start("background")
    cluster.kill("worker-1")
    cluster.start("worker-1")
    await progress(60)
    cluster.kill("gateway")
    cluster.start("gateway")
    cluster.kill("background")
    await valkey.restart()
    cluster.start("background")
    await progress(100)
    cluster.kill("worker-2")
    cluster.start("worker-2")
    await progress(150)
    assert cluster.stop("background") == 0
    cluster.start("background")


async def _progressed(client: openai.AsyncOpenAI, batch: str, least: int) -> bool:
    try:
        counts = (await client.batches.retrieve(batch)).request_counts
    except (openai.APIConnectionError, openai.InternalServerError):
        return False  # the gateway or Redis is away
    return counts is not None and counts.completed >= least


async def test_every_line_is_answered_once_whatever_dies(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    port = str(free_port())
    with processes(own_valkey.url, tmp_path, slice_seconds="2") as cluster:
        cluster.start("gateway", "gateway", "--port", port)
        for worker in ("worker-1", "worker-2"):
            cluster.start(worker, "worker", *PACE)
        cluster.start("background", "background")
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=8) as client:
            await wait_until(lambda: _served(client), within=60, every=0.1, what="a worker is there")
            file = await client.files.create(file=("in.jsonl", lines()), purpose="batch")
            endpoint: Any = "/v1/chat/completions"
            batch = await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
            await faults(cluster, own_valkey, client, batch.id)
            await wait_until(lambda: _completed(client, batch.id), within=150, every=0.2, what="the batch completes")
            done = await client.batches.retrieve(batch.id)
            assert done.output_file_id is not None and done.error_file_id is None
            given = [json.loads(each) for each in (await client.files.content(done.output_file_id)).text.splitlines()]
            assert [each["custom_id"] for each in given] == [f"line-{n}" for n in range(LINES)]
            await _same_as_asked_directly(client, given)


async def _served(client: openai.AsyncOpenAI) -> bool:
    try:
        return bool((await client.models.list()).data)
    except openai.APIConnectionError:
        return False


async def _completed(client: openai.AsyncOpenAI, batch: str) -> bool:
    return (await client.batches.retrieve(batch)).status == "completed"


async def _same_as_asked_directly(client: openai.AsyncOpenAI, given: list[dict[str, Any]]) -> None:
    """The tokens are a function of prompt and seed, so the same question asked now has the same answer."""

    async def check(n: int) -> None:
        said = given[n]["response"]["body"]["choices"][0]["message"]["content"]
        messages: Any = [{"role": "user", "content": f"question {n}"}]
        again = await client.chat.completions.create(model="simulated", seed=7, messages=messages)
        assert said == again.choices[0].message.content

    await asyncio.gather(*(check(n) for n in range(0, LINES, 20)))
