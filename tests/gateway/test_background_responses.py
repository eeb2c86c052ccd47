"""Responses that live on beside their requests: looked at while they grow, cancelled, deleted."""

import asyncio
from typing import Any

import openai
import pytest

from common.job import JobId
from tests.gateway.scripted import MODEL, ScriptedCluster, said
from tests.support import wait_until

ASK: dict[str, Any] = {"model": MODEL, "input": "hi"}


async def test_background(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.dispatch.at_first = 0
    begun = await client.responses.create(**ASK, background=True)
    assert begun.status == "queued" and begun.background
    assert (await client.responses.retrieve(begun.id)).status == "queued"
    await cluster.dispatch.advance(2)
    assert (await client.responses.retrieve(begun.id)).status == "in_progress"
    await cluster.dispatch.advance(9)

    async def status() -> bool:
        return (await client.responses.retrieve(begun.id)).status == "completed"

    await wait_until(status, what="the response is complete")
    cluster.dispatch.jobs.clear()  # its chunk log is gone; the stored one stays
    assert (await client.responses.retrieve(begun.id)).output_text == "Hello world"


async def test_background_is_stored_without_anybody_looking(
    client: openai.AsyncOpenAI, cluster: ScriptedCluster
) -> None:
    begun = await client.responses.create(**ASK, background=True)
    await wait_until(lambda: cluster.dispatch.followers == 0, what="the follower is done")
    cluster.dispatch.jobs.clear()
    assert (await client.responses.retrieve(begun.id)).output_text == "Hello world"


async def test_a_look_and_a_cancel_do_not_wait_for_what_is_still_to_come(
    client: openai.AsyncOpenAI, cluster: ScriptedCluster
) -> None:
    cluster.dispatch.script = lambda _: said(*["word "] * 1000)
    cluster.dispatch.at_first = 1
    begun = await client.responses.create(**ASK, background=True)
    job = cluster.dispatch.jobs[JobId(begun.id)]

    async def flowing() -> None:
        while True:
            await cluster.dispatch.advance()
            await asyncio.sleep(0.01)

    flow = asyncio.create_task(flowing())
    assert (await client.responses.retrieve(begun.id)).status == "in_progress"
    assert (await client.responses.cancel(begun.id)).status == "cancelled"
    flow.cancel()
    assert not any(chunk.finish for chunk in job.script), "it was stopped before its end"


async def test_what_was_deleted_stays_deleted(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.dispatch.at_first = 2
    begun = await client.responses.create(**ASK, background=True)
    await client.responses.delete(begun.id)
    await wait_until(lambda: cluster.dispatch.followers == 0, what="its job is stopped, and nobody follows it")
    assert cluster.dispatch.cancelled == [begun.id]
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(begun.id)


async def test_cancel(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    cluster.dispatch.at_first = 2
    begun = await client.responses.create(**ASK, background=True)
    cancelled = await client.responses.cancel(begun.id)
    assert cancelled.status == "cancelled" and cluster.dispatch.cancelled == [begun.id]
    assert (await client.responses.retrieve(begun.id)).status == "cancelled"
