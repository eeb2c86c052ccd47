"""Stored chat completions as the official client sees them."""

from typing import Any

import httpx
import openai
import pytest

from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster

ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


async def test_kept_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(**ASK, store=True, metadata={"a": "1"})
    stream = await client.chat.completions.create(**ASK, store=True, stream=True, metadata={"a": "2"})
    streamed = [chunk.id async for chunk in stream].pop()
    kept = await client.chat.completions.retrieve(whole.id)
    assert kept.choices == whole.choices and kept.usage == whole.usage
    assert (await client.chat.completions.retrieve(streamed)).choices == whole.choices
    unkept = await client.chat.completions.create(**ASK)
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.retrieve(unkept.id)


async def test_listed_in_pages_and_filtered(client: openai.AsyncOpenAI) -> None:
    ids = [
        (await client.chat.completions.create(**ASK, store=True, metadata={"half": str(n % 2)})).id for n in range(7)
    ]
    listed = [kept.id async for kept in client.chat.completions.list(limit=3)]
    assert sorted(listed) == sorted(ids)
    down = [kept.id async for kept in client.chat.completions.list(limit=3, order="desc")]
    assert down == listed[::-1]
    halves = [kept.id async for kept in client.chat.completions.list(metadata={"half": "1"}, limit=2)]
    assert sorted(halves) == sorted(ids[1::2])
    assert [kept async for kept in client.chat.completions.list(model="other")] == []


async def test_messages(client: openai.AsyncOpenAI) -> None:
    asked: list[Any] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    kept = await client.chat.completions.create(model=MODEL, messages=asked, store=True)
    found = [message async for message in client.chat.completions.messages.list(kept.id, limit=1)]
    assert [(message.role, message.content) for message in found] == [("system", "s"), ("user", "u")]
    assert len({message.id for message in found}) == 2


async def test_metadata_and_deletion(client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    kept = await client.chat.completions.create(**ASK, store=True, metadata={"a": "1"})
    await client.chat.completions.update(kept.id, metadata={"b": "2"})
    assert (await http.get(f"/v1/chat/completions/{kept.id}")).json()["metadata"] == {"b": "2"}
    deleted = await client.chat.completions.delete(kept.id)
    assert deleted.deleted and deleted.object == "chat.completion.deleted"
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.delete(kept.id)


async def test_a_tenant_sees_its_own(cluster: ScriptedCluster) -> None:
    keys = ["a:sk-aaaaaaaaaaaaaaaa", "b:sk-bbbbbbbbbbbbbbbb"]
    async with gateway(cluster, api_keys=keys) as url:
        mine, other = (openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key[2:], max_retries=0) for key in keys)
        async with mine, other:
            kept = await mine.chat.completions.create(**ASK, store=True)
            assert [entry.id async for entry in mine.chat.completions.list()] == [kept.id]
            assert [entry.id async for entry in other.chat.completions.list()] == []
            with pytest.raises(openai.NotFoundError):
                await other.chat.completions.retrieve(kept.id)


async def test_without_a_store(cluster: ScriptedCluster) -> None:
    cluster.store = None
    async with gateway(cluster) as url, httpx.AsyncClient(base_url=url) as http:
        refused = await http.post("/v1/chat/completions", json=ASK | {"store": True})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "store")
