"""Answers that are to be kept, whose gateway is killed in mid-stream: they are stored all the same."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.stream import Ask
from millstream.common.broker import keys
from tests.harness.cluster import CHAT, MODEL, PATIENCE, Cluster
from tests.harness.support import wait_until

RESPONSES = "/v1/responses"
ASK = Ask(MODEL, "tell me", 7, 300)
CHAT_QUESTION = ASK.body() | {"store": True, "n": 2, "metadata": {"from": "me"}}
RESPONSE_QUESTION = {"model": MODEL, "input": "hi", "max_output_tokens": 300, "stream": True}


async def listen(site: Cluster, url: str, question: dict[str, Any], heard: list[dict[str, Any]]) -> None:
    """Reads a stream that its gateway does not live to end."""
    with pytest.raises(httpx.TransportError):
        async with site.http.stream("POST", url, json=question) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    heard.append(json.loads(line[6:]))


async def cut_off(site: Cluster, gateway: FleetPart, *questions: tuple[str, dict[str, Any]]) -> list[str]:
    """The ids of answers whose gateway was killed in the middle of them."""
    heard: list[list[dict[str, Any]]] = [[] for _ in questions]
    async with asyncio.TaskGroup() as tasks:
        for (path, question), events in zip(questions, heard, strict=True):
            tasks.create_task(listen(site, gateway.url + path, question, events))
        await wait_until(lambda: all(len(events) > 9 for events in heard), within=PATIENCE, what="all have begun")
        await gateway.kill()
    return [first.get("response", first)["id"] for first, *_ in heard]


async def found(site: Cluster, url: str) -> dict[str, Any] | None:
    answer = await site.http.get(url)
    return answer.json() if answer.status_code == httpx.codes.OK else None


async def nothing_is_noted(site: Cluster) -> bool:
    drafts = [key async for key in site.broker.redis.scan_iter("*:draft:*")]
    return not drafts and not await site.broker.redis.exists(keys.UNFINISHED)


async def test_a_background_process_stores_them_from_their_logs(site: Cluster) -> None:
    gateway, other = await site.gateway(), await site.gateway()
    await site.worker()
    await site.fleet.background()
    chat, response = await cut_off(site, gateway, (CHAT, CHAT_QUESTION), (RESPONSES, RESPONSE_QUESTION))

    await wait_until(lambda: nothing_is_noted(site), within=PATIENCE, what="a background process stores them")
    record = await site.broker.redis.hget(keys.record("default", "response", response), "body")  # type: ignore[misc]
    assert json.loads(record)["response"]["status"] == "incomplete", "stored without anybody's look"
    said = await found(site, f"{other.url}{RESPONSES}/{response}")
    assert said is not None and len(said["output"][0]["content"][0]["text"].split()) == ASK.tokens

    kept = await found(site, f"{other.url}{CHAT}/{chat}")
    assert kept is not None
    first, second = kept["choices"]
    assert first["message"]["content"].split() == ASK.answer() and first["finish_reason"] == "length"
    assert len(second["message"]["content"].split()) == ASK.tokens
    assert (kept["metadata"], kept["usage"]["completion_tokens"]) == ({"from": "me"}, 2 * ASK.tokens)
    listed = (await site.http.get(f"{other.url}{CHAT}/{chat}/messages")).json()["data"]
    assert [message["content"] for message in listed] == [ASK.text]


async def test_without_a_background_process_the_next_look_stores_it_and_nothing_is_left(site: Cluster) -> None:
    gateway, other = await site.gateway(), await site.gateway()
    await site.worker()
    short = {"store": True, "max_tokens": 3, "stream": False, "stream_options": None}
    for path, question in ((CHAT, ASK.body() | short), (RESPONSES, RESPONSE_QUESTION | {"stream": False})):
        assert (await site.http.post(other.url + path, json=question)).status_code == httpx.codes.OK
    assert await nothing_is_noted(site), "what is complete is stored by its own gateway"

    [id] = await cut_off(site, gateway, (CHAT, CHAT_QUESTION))
    early = await site.http.get(f"{other.url}{CHAT}/{id}")
    assert early.status_code == httpx.codes.OK or "not complete yet" in early.json()["error"]["message"]
    kept = await wait_until(lambda: found(site, f"{other.url}{CHAT}/{id}"), within=PATIENCE, what="it is complete")
    assert kept is not None and kept["choices"][0]["message"]["content"].split() == ASK.answer()
    assert await nothing_is_noted(site)
