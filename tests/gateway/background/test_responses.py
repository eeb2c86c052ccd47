"""Background responses that are looked at while they run, or that nobody wants any more."""

import asyncio
import itertools
from pathlib import Path

import openai
import pytest
from redis import Redis

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.records.store import Record, RedisStore
from millstream.common.chunk import Chunk
from tests.gateway.background.cluster import gateway
from tests.gateway.conftest import gateway as scripted_gateway
from tests.gateway.scripted import MODEL, ScriptedCluster, said
from tests.harness.support import wait_until


async def grow(cluster: ScriptedCluster) -> None:
    for _ in itertools.count():
        await cluster.queue.advance(1)
        await asyncio.sleep(0.01)


async def test_a_look_does_not_wait_for_a_stream_that_flows() -> None:
    """Chunk follows chunk for minutes; a look returns at once, and so does a cancellation."""
    cluster = ScriptedCluster()
    cluster.queue.at_first = 0
    script: list[Chunk] = said(*(f"{n} " for n in range(30_000)))
    cluster.queue.script = lambda request: script
    async with (
        asyncio.TaskGroup() as tasks,
        scripted_gateway(cluster) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        growing = tasks.create_task(grow(cluster))
        begun = await client.responses.create(model=MODEL, input="hello", background=True)
        await wait_until(lambda: cluster.queue.jobs[begun.id].happened > 5, what="it flows")
        seen = await client.responses.retrieve(begun.id)
        assert seen.status == "in_progress"
        assert (await client.responses.cancel(begun.id)).status == "cancelled"
        assert cluster.queue.jobs[begun.id].happened < len(script)
        growing.cancel()


async def test_asked_again_with_its_key_it_is_told_as_it_is() -> None:
    cluster = ScriptedCluster()
    assert cluster.store is not None
    async with (
        scripted_gateway(cluster) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):

        async def ask() -> openai.types.responses.Response:
            headers = {"Idempotency-Key": "k"}
            return await client.responses.create(model=MODEL, input="hello", background=True, extra_headers=headers)

        begun = await ask()
        cluster.store.records.clear()  # the gateway died before it had stored the response; the client asks another
        again = await ask()
        assert (begun.status, again.id) == ("queued", begun.id)
        await wait_until(lambda: cluster.queue.job_streams == 0, what="the follower is done")
        last = await ask()
        assert (last.status, last.output_text) == ("completed", "Hello world")


async def test_a_deleted_response_stops(redis_url: str, tmp_path: Path) -> None:
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        redis.sadd("ms:models", "simulated")  # known, though no worker is there: its jobs wait
        async with (
            gateway(redis_url, tmp_path) as url,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        ):
            begun = await client.responses.create(model="simulated", input="hello", background=True)
            job = f"ms:{{simulated}}:job:{begun.id}"
            assert redis.hget(job, "state") == "queued"
            await client.responses.delete(begun.id)
            await wait_until(lambda: redis.hget(job, "state") == "cancelled", what="its job is stopped")
            for again in (client.responses.retrieve, client.responses.delete):
                with pytest.raises(openai.NotFoundError):
                    await again(begun.id)


async def test_what_was_deleted_is_not_written_anew(redis_url: str) -> None:
    async with Broker(redis_url) as broker:
        store, record = RedisStore(broker), Record("resp_1", 1, b"{}")
        await store.put("a", "response", record, 60)
        await store.put("a", "response", Record("resp_1", 1, b"[]"), 60, anew=True)
        found = await store.get("a", "response", "resp_1")
        assert found is not None and found.body == b"[]"
        await store.delete("a", "response", "resp_1")
        await store.put("a", "response", record, 60, anew=True)
        assert await store.list("a", "response") == []
