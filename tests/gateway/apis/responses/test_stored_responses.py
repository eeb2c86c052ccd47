"""Responses that are stored: they are read again, deleted and continued."""

from typing import Any

import openai
import pytest
from openai.types import responses as kinds

from millstream.common.job import ChatPrompt
from tests.gateway.scripted import MODEL, ScriptedCluster

ASK: dict[str, Any] = {"model": MODEL, "input": "hi"}


async def test_conversation(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    first = await client.responses.create(**ASK)
    second = await client.responses.create(model=MODEL, input="more", previous_response_id=first.id)
    await client.responses.create(model=MODEL, input="even more", previous_response_id=second.id)
    prompt = cluster.queue.requests[-1].input
    assert isinstance(prompt, ChatPrompt)
    contents = [message["content"] for message in prompt.messages]
    assert contents == ["hi", "Hello world", "more", "Hello world", "even more"]
    listed = await client.responses.input_items.list(second.id)
    assert [item.content[0].text for item in listed.data] == ["more"]  # type: ignore[union-attr]
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model=MODEL, input="x", previous_response_id="resp_unknown")
    assert (caught.value.param, caught.value.code) == ("previous_response_id", "previous_response_not_found")


async def test_stored_and_deleted(client: openai.AsyncOpenAI) -> None:
    kept = await client.responses.create(**ASK, metadata={"a": "b"})
    again = await client.responses.retrieve(kept.id)
    assert again == kept and again.metadata == {"a": "b"}
    await client.responses.delete(kept.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(kept.id)
    unkept = await client.responses.create(**ASK, store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(unkept.id)


async def test_streamed_ones_are_stored_too(client: openai.AsyncOpenAI) -> None:
    stream = await client.responses.create(**ASK, stream=True)
    final = [event async for event in stream][-1]
    assert isinstance(final, kinds.ResponseCompletedEvent)
    assert await client.responses.retrieve(final.response.id) == final.response
