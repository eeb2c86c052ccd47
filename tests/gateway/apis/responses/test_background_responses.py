"""Responses that live on beside their requests: looked at while they grow, cancelled, deleted."""

import asyncio
from typing import Any

import openai
import pytest

from millstream.common.job import ChatPrompt, JobId
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster, said
from tests.harness.support import wait_until

ASK: dict[str, Any] = {"model": MODEL, "input": "hi"}


async def test_background(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.queue.at_first = 0
    begun = await client.responses.create(**ASK, background=True)
    assert begun.status == "queued" and begun.background
    assert (await client.responses.retrieve(begun.id)).status == "queued"
    await cluster.queue.advance(2)
    assert (await client.responses.retrieve(begun.id)).status == "in_progress"
    await cluster.queue.advance(9)

    async def status() -> bool:
        return (await client.responses.retrieve(begun.id)).status == "completed"

    await wait_until(status, what="the response is complete")
    cluster.queue.jobs.clear()  # its chunk log is gone; the stored one stays
    assert (await client.responses.retrieve(begun.id)).output_text == "Hello world"


async def test_background_is_stored_without_anybody_looking(
    client: openai.AsyncOpenAI, cluster: ScriptedCluster
) -> None:
    begun = await client.responses.create(**ASK, background=True)
    await wait_until(lambda: cluster.queue.job_streams == 0, what="the follower is done")
    cluster.queue.jobs.clear()
    assert (await client.responses.retrieve(begun.id)).output_text == "Hello world"


async def test_a_look_that_finds_no_log_does_not_replace_the_end_that_is_stored_meanwhile(
    client: openai.AsyncOpenAI, cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cluster.store is not None
    cluster.queue.at_first = 0
    begun = await client.responses.create(**ASK, background=True)
    shelf = cluster.store.records["default", "response"]
    early = shelf[begun.id]
    await cluster.queue.advance(9)
    await wait_until(lambda: shelf[begun.id] != early, what="the end is stored")
    late, shelf[begun.id] = shelf[begun.id], early
    cluster.queue.jobs.clear()
    logged = cluster.queue.logged

    async def stored_meanwhile(*args: Any, **kwargs: Any) -> Any:
        shelf[begun.id] = late
        return await logged(*args, **kwargs)

    monkeypatch.setattr(cluster.queue, "logged", stored_meanwhile)
    for _ in range(2):
        assert (await client.responses.retrieve(begun.id)).output_text == "Hello world"


async def test_a_look_and_a_cancel_do_not_wait_for_what_is_still_to_come(
    client: openai.AsyncOpenAI, cluster: ScriptedCluster
) -> None:
    cluster.queue.script = lambda _: said(*["word "] * 1000)
    cluster.queue.at_first = 1
    begun = await client.responses.create(**ASK, background=True)
    job = cluster.queue.jobs[JobId(begun.id)]

    async def flowing() -> None:
        while True:
            await cluster.queue.advance()
            await asyncio.sleep(0.01)

    flow = asyncio.create_task(flowing())
    assert (await client.responses.retrieve(begun.id)).status == "in_progress"
    assert (await client.responses.cancel(begun.id)).status == "cancelled"
    flow.cancel()
    assert not any(chunk.finish for chunk in job.script), "it was stopped before its end"


async def test_what_was_deleted_stays_deleted(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.queue.at_first = 2
    begun = await client.responses.create(**ASK, background=True)
    await client.responses.delete(begun.id)
    await wait_until(lambda: cluster.queue.job_streams == 0, what="its job is stopped, and nobody follows it")
    assert cluster.queue.cancelled == [begun.id]
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(begun.id)


async def test_items_of_stored_responses_can_be_referred_to(
    client: openai.AsyncOpenAI, cluster: ScriptedCluster
) -> None:
    first = await client.responses.create(model=MODEL, input=[{"role": "user", "content": "hi"}])
    [asked] = (await client.responses.input_items.list(first.id)).data
    ids = [str(asked.id), str(first.output[0].id)]
    references: list[Any] = [{"type": "item_reference", "id": id} for id in ids]
    await client.responses.create(model=MODEL, input=[*references, {"role": "user", "content": "more"}])
    prompt = cluster.queue.requests[-1].input
    assert isinstance(prompt, ChatPrompt)
    assert [message["content"] for message in prompt.messages] == ["hi", "Hello world", "more"]
    for unknown in ("msg_1", f"{ids[0][:-1]}f", ""):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.responses.create(model=MODEL, input=[{"type": "item_reference", "id": unknown}])
        assert caught.value.param == "input"


async def test_a_turn_can_follow_before_the_end_of_the_last_one_is_stored(
    client: openai.AsyncOpenAI, cluster: ScriptedCluster
) -> None:
    assert cluster.store is not None
    cluster.queue.at_first = 0
    begun = await client.responses.create(**ASK, background=True)
    with pytest.raises(openai.BadRequestError, match="still being generated"):
        await client.responses.create(**ASK, previous_response_id=begun.id)
    unfinished = await cluster.store.get("default", "response", begun.id)
    assert unfinished is not None
    await cluster.queue.advance(9)
    await cluster.store.put("default", "response", unfinished, 60)
    cluster.queue.at_first = None
    await client.responses.create(**ASK, previous_response_id=begun.id)
    prompt = cluster.queue.requests[-1].input
    assert isinstance(prompt, ChatPrompt) and prompt.messages[1]["content"] == "Hello world"


async def test_cancel(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.queue.at_first = 2
    begun = await client.responses.create(**ASK, background=True)
    cancelled = await client.responses.cancel(begun.id)
    assert cancelled.status == "cancelled" and cluster.queue.cancelled == [begun.id]
    assert (await client.responses.retrieve(begun.id)).status == "cancelled"


async def test_without_a_store(cluster: ScriptedCluster) -> None:
    cluster.store = None
    async with (
        gateway(cluster) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
    ):
        assert (await client.responses.create(**ASK)).output_text == "Hello world"
        with pytest.raises(openai.BadRequestError):
            await client.responses.create(**ASK, background=True)
