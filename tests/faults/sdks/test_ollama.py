"""Ollama's own client at a cluster of real processes, also while a worker dies."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ollama
import pytest

from millstream.bench.chaos.fleet import FleetPart
from millstream.common.hashchain import chain_next
from tests.harness.cluster import MODEL, PATIENCE, Cluster
from tests.harness.support import wait_until

HI: list[Any] = [{"role": "user", "content": "hi"}]
TOKENS = 200


def assert_whole(text: str, count: int) -> None:
    """Every token there, in its place: each tells the next."""
    tokens = [int(word, 16) for word in text.split()]
    assert len(tokens) == count
    assert tokens[1:] == [chain_next(token) for token in tokens[:-1]]


@asynccontextmanager
async def llama_at(gateway: FleetPart) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(host=gateway.url, timeout=PATIENCE)
    yield client
    await client.close()


async def test_what_the_client_can_ask(site: Cluster) -> None:
    gateway, _ = await site.gateway(), await site.worker()
    options = {"num_predict": 20, "seed": 5}
    async with llama_at(gateway) as llama:
        whole = await llama.chat(f"{MODEL}:latest", HI, options=options)
        parts = [part async for part in await llama.chat(MODEL, HI, options=options, stream=True)]
        assert "".join(part.message.content or "" for part in parts) == whole.message.content
        assert_whole(whole.message.content or "", 20)
        assert (whole.done_reason, whole.eval_count, parts[-1].eval_count) == ("length", 20, 20)
        answered = await llama.generate(MODEL, "hi", raw=True, options=options)
        assert_whole(answered.response or "", 20)
        schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
        formed = await llama.chat(MODEL, HI, format=schema)
        assert isinstance(json.loads(formed.message.content or "")["ok"], bool)
        assert [model.model for model in (await llama.list()).models] == [MODEL]
        assert (await llama.show(MODEL)).capabilities == ["completion", "tools"]
        assert [model.name for model in (await llama.ps()).models] == [MODEL]
        with pytest.raises(ollama.ResponseError, match="embed"):
            await llama.embed(MODEL, "hi")
        with pytest.raises(ollama.ResponseError, match="does not exist"):
            await llama.chat("nobody", HI)


async def test_a_stream_outlives_a_killed_worker(site: Cluster) -> None:
    gateway, first = await site.gateway(), await site.worker()
    heard: list[str] = []

    async def read(llama: ollama.AsyncClient) -> ollama.ChatResponse:
        last: ollama.ChatResponse | None = None
        async for last in await llama.chat(MODEL, HI, options={"num_predict": TOKENS, "seed": 3}, stream=True):
            heard.append(last.message.content or "")
        assert last is not None
        return last

    async with llama_at(gateway) as llama:
        reading = asyncio.create_task(read(llama))
        await wait_until(lambda: len(heard) >= 5, within=PATIENCE, what="the answer has begun")
        await first.kill()
        await site.worker()
        last = await reading
    assert_whole("".join(heard), TOKENS)
    assert last.done and last.eval_count == TOKENS
    [job] = await site.jobs()
    assert int(job["grant"]) > 1, "another worker went on"
