"""Answers that are to be kept, complete in the moment when Redis takes no record: they are stored once it does."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from millstream.bench.chaos.server.truncate_aof import cut_tail
from millstream.common.broker import keys
from millstream.common.job import JobId
from tests.harness.cluster import CHAT, MODEL, PATIENCE, Cluster, body
from tests.harness.support import wait_until

RESPONSES = "/v1/responses"
NO_RECORDS = ("resetkeys", f"~{keys.prefix(MODEL)}*", "~ms:[^{]*")  # all but what is kept for tenants
SAID = "incomplete"  # a response that was said as far as was asked for
ASK = {"model": MODEL, "input": "hi", "max_output_tokens": 60}


async def allow(site: Cluster, *rules: str) -> None:
    await site.broker.redis.execute_command("ACL", "SETUSER", "default", *rules)


async def ask(site: Cluster, url: str, question: dict[str, Any], *, stream: bool) -> tuple[str, str]:
    """The answer's id and text; from the middle of it on Redis takes no records."""
    async with site.http.stream("POST", url, json={**question, "stream": stream}) as answer:
        if not stream:
            return whole(json.loads(await answer.aread()))
        lines = answer.aiter_lines()
        heard = [await anext(lines) for _ in range(30)]
        await allow(site, *NO_RECORDS)
        heard += [line async for line in lines]
    return streamed([json.loads(line[6:]) for line in heard if line.startswith("data: {")])


def whole(answer: dict[str, Any]) -> tuple[str, str]:
    if answer["object"] == "response":
        return answer["id"], answer["output"][0]["content"][0]["text"]
    return answer["id"], answer["choices"][0]["message"]["content"]


def streamed(events: list[dict[str, Any]]) -> tuple[str, str]:
    if "response" in events[0]:
        return whole(events[-1]["response"])
    return events[0]["id"], "".join(event["choices"][0]["delta"].get("content") or "" for event in events)


async def forbid_when_it_runs(site: Cluster) -> None:
    await wait_until(site.running, within=PATIENCE, what="the answer is being made")
    await allow(site, *NO_RECORDS)


async def kept(site: Cluster, url: str) -> tuple[str, str] | None:
    found = await site.http.get(url)
    if found.status_code != httpx.codes.OK or found.json().get("status", SAID) != SAID:
        return None
    return whole(found.json())


@pytest.mark.parametrize("stream", [True, False])
async def test_a_chat_is_stored_though_redis_has_forgotten_everything(site: Cluster, stream: bool) -> None:
    gateway, _ = await site.gateway(), await site.worker()
    forbidding = asyncio.create_task(forbid_when_it_runs(site))
    said = await ask(site, gateway.url + CHAT, body(store=True, max_tokens=60), stream=stream)
    await forbidding
    await site.valkey.kill()
    cut_tail(site.data, 1 << 30)
    await site.valkey.restart()
    url = f"{gateway.url}{CHAT}/{said[0]}"
    assert await wait_until(lambda: kept(site, url), within=PATIENCE, every=0.1, what="it is stored") == said


@pytest.mark.parametrize("stream", [True, False])
async def test_a_response_is_stored_though_its_log_is_lost(site: Cluster, stream: bool) -> None:
    gateway, _ = await site.gateway(), await site.worker()
    forbidding = asyncio.create_task(forbid_when_it_runs(site))
    said = await ask(site, gateway.url + RESPONSES, ASK, stream=stream)
    await forbidding
    await site.broker.redis.delete(keys.job(MODEL, JobId(said[0])), keys.chunks(MODEL, JobId(said[0])))
    await allow(site, "allkeys")
    url = f"{gateway.url}{RESPONSES}/{said[0]}"
    assert await wait_until(lambda: kept(site, url), within=PATIENCE, every=0.1, what="it is stored") == said


async def test_a_gateway_that_stops_keeps_its_promise_first(site: Cluster) -> None:
    gateway, _ = await site.gateway(drain="1"), await site.worker()
    forbidding = asyncio.create_task(forbid_when_it_runs(site))
    said = await ask(site, gateway.url + CHAT, body(store=True, max_tokens=60), stream=True)
    await forbidding
    stopping = asyncio.create_task(gateway.stop())
    await allow(site, "allkeys")
    assert await stopping == 0
    other = await site.gateway()
    assert await kept(site, f"{other.url}{CHAT}/{said[0]}") == said
