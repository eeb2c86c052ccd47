"""The background process while Redis dies again and again: batches and background responses all end, and it stops when
it is told to."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import openai
import pytest
from redis.asyncio import Redis

from millstream.common.broker import keys
from millstream.common.broker.embedded import EmbeddedValkey, free_port
from tests.gateway.background.processes import BackgroundProcesses, processes
from tests.harness.loading import loading_server
from tests.harness.support import wait_until

pytestmark = pytest.mark.timeout(400)  # a safety net for a busy machine; it takes a minute
STORMS, APART = 6, 4.0  # kills of Redis, and seconds between two
BATCHES, LINES, RESPONSES = 3, 60, 6
PACE = ["--engine", "simulated", "--simulated-rate", "100", "--simulated-length", "60", "--slots", "4"]
T = TypeVar("T")


def lines(batch: int) -> bytes:
    """One batch's input."""
    asked = [{"role": "user", "content": f"batch {batch}"}]
    body = {"model": "simulated", "seed": batch, "messages": asked}
    each = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    return b"".join(json.dumps({"custom_id": f"line-{n}", **each}).encode() + b"\n" for n in range(LINES))


async def in_the_end(call: Callable[[], Awaitable[T]]) -> T:
    """Returns what the call returns once Redis is there again."""

    async def tried() -> tuple[T] | None:
        try:
            return (await call(),)
        except (openai.APIConnectionError, openai.InternalServerError):
            return None

    found = await wait_until(tried, within=60, every=0.1, what="the gateway has an answer")
    assert found
    return found[0]


@asynccontextmanager
async def running(
    valkey: EmbeddedValkey, folder: Path
) -> AsyncIterator[tuple[BackgroundProcesses, openai.AsyncOpenAI]]:
    port = str(free_port())
    with processes(valkey.url, folder, slice_seconds="2", lease="4") as cluster:
        cluster.start("gateway", "gateway", "--port", port)
        cluster.start("worker", "worker", *PACE)
        cluster.start("background", "background")
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0) as client:
            await wait_until(lambda: served(client), within=60, every=0.1, what="a worker is there")
            yield cluster, client


async def served(client: openai.AsyncOpenAI) -> bool:
    try:
        return bool((await client.models.list()).data)
    except openai.APIError:
        return False


async def begun(client: openai.AsyncOpenAI, number: int) -> str:
    file = await in_the_end(lambda: client.files.create(file=("in.jsonl", lines(number)), purpose="batch"))
    endpoint: Any = "/v1/chat/completions"
    create = client.batches.create
    batch = await in_the_end(lambda: create(input_file_id=file.id, endpoint=endpoint, completion_window="24h"))
    return batch.id


async def test_batches_and_responses_end_whatever_redis_does(own_valkey: EmbeddedValkey, tmp_path: Path) -> None:
    async with running(own_valkey, tmp_path) as (cluster, client):
        batches = [await begun(client, number) for number in range(BATCHES)]
        create = client.responses.create
        responses = [
            (await in_the_end(lambda: create(model="simulated", input="hello", background=True))).id
            for _ in range(RESPONSES)
        ]
        for _ in range(STORMS):
            await asyncio.sleep(APART)
            await own_valkey.restart()
        for batch in batches:
            await wait_until(lambda b=batch: over(client, b), within=120, every=0.2, what="a batch completes")
            counts = (await in_the_end(lambda b=batch: client.batches.retrieve(b))).request_counts
            assert counts is not None and (counts.completed, counts.failed) == (LINES, 0)
        for response in responses:
            await wait_until(lambda r=response: told(client, r), within=60, every=0.2, what="a response completes")
        assert "Traceback" not in cluster.log("background")
        assert cluster.stop("background") == 0


async def over(client: openai.AsyncOpenAI, batch: str) -> bool:
    return (await in_the_end(lambda: client.batches.retrieve(batch))).status == "completed"


async def told(client: openai.AsyncOpenAI, response: str) -> bool:
    return (await in_the_end(lambda: client.responses.retrieve(response))).status == "completed"


@asynccontextmanager
async def in_state(state: str, valkey: EmbeddedValkey) -> AsyncIterator[None]:
    """The block meets such a Redis."""
    if state == "silent":
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        return
    await valkey.kill()
    if state == "away":
        yield
        return
    async with loading_server(valkey.port):
        yield


@pytest.mark.parametrize("state", ["well", "away", "loading", "silent"])
async def test_it_stops_when_told_to_in_the_middle_of_batches(
    own_valkey: EmbeddedValkey, tmp_path: Path, state: str
) -> None:
    """After several outages, whatever Redis does then; within far less than a slice of a batch would take."""
    async with running(own_valkey, tmp_path) as (cluster, client):
        for number in range(BATCHES):
            await begun(client, number)
        for _ in range(3):
            await asyncio.sleep(1)
            await own_valkey.restart()
        await asyncio.sleep(2)
        async with in_state(state, own_valkey) if state != "well" else nullcontext():
            await asyncio.sleep(0.5)
            before = time.monotonic()
            assert await asyncio.to_thread(cluster.stop, "background", 15) == 0
            print(f"stopped while Redis was {state}: {time.monotonic() - before:.2f} s")
        assert "Traceback" not in cluster.log("background")


async def test_a_batch_is_completed_again_when_redis_forgets_that_it_was(
    own_valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """It believes again that a process has just taken its turn, and nobody has."""
    async with running(own_valkey, tmp_path) as (cluster, client), taken_in(own_valkey) as taken:
        batch = await begun(client, 1)
        await wait_until(lambda: over(client, batch), within=120, every=0.2, what="the batch completes")
        done = await client.batches.retrieve(batch)
        assert taken
        cluster.kill("background")
        async with Redis.from_url(own_valkey.url) as redis:  # as it was a moment before
            before: Any = {"status": "finalizing", "grant": int(await redis.hget(keys.batch_state(batch), "grant")) - 1}  # type: ignore[misc]
            await redis.hset(keys.batch_state(batch), mapping=before)  # type: ignore[misc]
            await redis.rpush(keys.batch_parts(batch), *parts_of(cluster, batch))  # type: ignore[misc]
            await redis.zadd(keys.BATCHES, {batch: done.created_at})
            for job in taken:
                await redis.set(f"arq:in-progress:{job}", "1", ex=600)
                await redis.set(f"arq:job:{job}", "not looked at before the other key is gone", ex=600)
        cluster.start("background")
        await wait_until(lambda: over(client, batch), within=120, every=0.2, what="it completes again")
        assert (await client.batches.retrieve(batch)).output_file_id == done.output_file_id
        assert done.output_file_id is not None
        given = (await client.files.content(done.output_file_id)).text.splitlines()
        assert [json.loads(each)["custom_id"] for each in given] == [f"line-{n}" for n in range(LINES)]


@asynccontextmanager
async def taken_in(valkey: EmbeddedValkey) -> AsyncIterator[list[str]]:
    """Yields the turns at batches that background processes take, one after the other, as arq names them."""
    found: list[str] = []

    async def listen(monitor: Any) -> None:
        async for told in monitor.listen():
            if name := re.match(r"PSETEX arq:in-progress:(batch:\S+)", told["command"], re.IGNORECASE):
                found.append(name[1])

    async with Redis.from_url(valkey.url, decode_responses=True) as redis, redis.monitor() as monitor:
        listening = asyncio.create_task(listen(monitor))
        yield found
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


def parts_of(cluster: BackgroundProcesses, batch: str) -> list[str]:
    """The parts that lie in the files, as Redis had them: of as many lines as they hold."""
    folder, told, first = cluster.folder / "files", list[str](), 0
    for path in sorted((folder / "parts" / batch).glob("*.completed")):
        last = first + len(path.read_text().splitlines())
        name = str(path.relative_to(folder))
        told.append(json.dumps({"first": first, "last": last, "completed": name, "failed": ""}))
        first = last
    assert first == LINES
    return told
