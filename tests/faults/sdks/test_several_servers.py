"""Models over three Redis servers: streams, ids and batches as with one; a server that dies costs its models only."""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from millstream.bench.chaos.fleet import FleetPart
from millstream.bench.chaos.stream import StreamClient
from millstream.cli.inspect.doctor import examine
from millstream.cli.settings import DoctorSettings
from millstream.common.broker import keys
from millstream.common.job import JobId, ModelName
from tests.faults.sdks.conftest import ALPHA, BETA, GAMMA, ThreeServers
from tests.harness.cluster import CHAT, PATIENCE, all_exact, heard_some
from tests.harness.support import wait_until

AT_HOME = {keys.looked_for(model) for model in (ALPHA, BETA, GAMMA)}
LINES = 40


def body(model: ModelName, **changes: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, **changes}


async def begun(clients: list[StreamClient]) -> list[asyncio.Task[Any]]:
    running = [asyncio.create_task(client.run()) for client in clients]
    for client in clients:
        await heard_some(client)
    return running


def sdk(gateway: FleetPart, **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", **options)


async def test_a_server_that_dies_costs_its_models_only(three: ThreeServers) -> None:
    gateway = await three.site.gateway()
    for model in (ALPHA, BETA, GAMMA):
        await three.worker(model)
    lost = [three.client(gateway, ALPHA, 200) for _ in range(3)]
    others = [three.client(gateway, model, 600) for model in (BETA, GAMMA) for _ in range(3)]
    of_lost, of_others = await begun(lost), await begun(others)
    await three.servers["a"].kill()
    async with sdk(gateway, max_retries=0) as client:
        with pytest.raises(openai.APIStatusError, match="The queue \\(Redis\\) cannot be reached") as raised:
            await client.chat.completions.create(**body(ALPHA))
        assert raised.value.status_code == httpx.codes.SERVICE_UNAVAILABLE
        for model in (BETA, GAMMA):
            answer = await client.chat.completions.create(**body(model))
            assert answer.usage is not None and answer.usage.completion_tokens == 5
        listed = {model.id: model for model in (await client.models.list()).data}
    assert {name: model.workers for name, model in listed.items()} == {"alpha": 0, "beta": 1, "gamma": 1}  # type: ignore[attr-defined]
    assert (await three.site.http.get(f"{gateway.url}/ready")).status_code == httpx.codes.OK
    metrics = (await three.site.http.get(f"{gateway.url}/metrics")).text
    assert f'server="127.0.0.1:{three.servers["b"].port}/0"' in metrics
    assert f'server="127.0.0.1:{three.servers["a"].port}/0"' not in metrics
    told = (await three.site.http.get(f"{gateway.url}/v1/cluster")).json()
    assert {model["id"]: bool(model["away"]) for model in told["models"]} == {
        "alpha": True, "beta": False, "gamma": False
    }  # fmt: skip
    await all_exact(others, of_others)
    assert all(client.heard.connections == 1 for client in others)
    await three.servers["a"].restart()
    await all_exact(lost, of_lost)
    assert all(client.heard.connections == 1 for client in lost)


async def test_every_key_lies_at_its_server(three: ThreeServers) -> None:
    gateway = await three.site.gateway()
    for model in (ALPHA, BETA, GAMMA):
        await three.worker(model)
    async with sdk(gateway) as client:
        for model in (ALPHA, BETA, GAMMA):
            await client.chat.completions.create(**body(model, store=True))
            await client.responses.create(model=model, input="hi", max_output_tokens=5)
    await wait_until(lambda: _marked(three), within=PATIENCE, what="gateways leave their marks")
    home, a, b = [await three.names(server) for server in ("home", "a", "b")]
    assert {name for name in a if not name.startswith(keys.prefix(ALPHA))} == set()
    assert {name for name in b if not name.startswith(keys.prefix(BETA))} == set()
    assert {name for name in home if name.startswith((keys.prefix(ALPHA), keys.prefix(BETA)))} <= AT_HOME
    assert keys.MODELS in home and any(name.startswith("ms:{tenant:") for name in home)
    assert any("job:" in name for name in a) and any("job:" in name for name in b)


async def _marked(three: ThreeServers) -> bool:
    return keys.looked_for(ALPHA) in await three.names("a") and keys.looked_for(BETA) in await three.names("b")


async def test_a_killed_worker_a_killed_gateway_and_ids(three: ThreeServers) -> None:
    """Fail-over, resumption at another gateway, idempotency, cancel and the look at a job, away from home."""
    one, two = await three.site.gateway(admins="default"), await three.site.gateway(admins="default")
    dying = await three.worker(ALPHA)
    clients = [three.client(one, ALPHA, 300) for _ in range(3)]
    running = await begun(clients)
    await three.worker(ALPHA)
    await dying.kill()
    for client in clients:
        client.base = lambda: two.url
    await one.kill()
    await all_exact(clients, running)
    http, question = three.site.http, body(ALPHA, max_tokens=7)
    answers = [
        (await http.post(two.url + CHAT, json=question, headers={"idempotency-key": "once"})).json() for _ in range(2)
    ]
    assert answers[0]["id"] == answers[1]["id"] and answers[0]["choices"] == answers[1]["choices"]
    long = three.client(two, ALPHA, 5000)
    (task,) = await begun([long])
    life = await http.get(f"{two.url}/v1/jobs/{long.heard.request}")
    assert life.status_code == httpx.codes.OK and life.json()["model"] == ALPHA, life.text
    stopped = await http.post(f"{two.url}/v1/requests/{long.heard.request}/cancel")
    assert stopped.status_code == httpx.codes.OK, stopped.text
    await asyncio.wait_for(task, PATIENCE)
    job = await three.site.broker.of(ALPHA).redis.hgetall(keys.job(ALPHA, JobId(long.heard.request)))  # type: ignore[misc]
    assert job["state"] == "cancelled"


async def test_running_streams_go_on_without_home(three: ThreeServers) -> None:
    gateway = await three.site.gateway()
    await three.worker(ALPHA)
    clients = [three.client(gateway, ALPHA, 500) for _ in range(3)]
    running = await begun(clients)
    await three.home.kill()
    await all_exact(clients, running)
    assert all(client.heard.connections == 1 for client in clients)
    assert all(part.alive for part in three.site.fleet.parts)
    await three.home.restart()
    again = [three.client(gateway, ALPHA, 20)]
    await all_exact(again, [asyncio.create_task(client.run()) for client in again])


@pytest.mark.timeout(300)
async def test_batches_over_two_servers(three: ThreeServers) -> None:
    """One server is away for a while: its batch waits, the other's ends."""
    gateway = await three.site.gateway()
    await three.site.fleet.background()
    await three.worker(ALPHA)
    await three.worker(BETA)
    async with sdk(gateway) as client:
        lost, kept = [await _batch(client, model) for model in (ALPHA, BETA)]
        await wait_until(lambda: _progress(client, lost), within=PATIENCE, what="the first lines are answered")
        await three.servers["a"].kill()
        await wait_until(lambda: _over(client, kept), within=PATIENCE, every=0.2, what="the other's batch ends")
        assert not await _over(client, lost)
        await three.servers["a"].restart()
        await wait_until(lambda: _over(client, lost), within=120, every=0.2, what="its own batch ends")
        for batch in (lost, kept):
            told = await client.batches.retrieve(batch)
            assert told.output_file_id is not None, told
            rows = [json.loads(line) for line in (await client.files.content(told.output_file_id)).text.splitlines()]
            assert sorted(row["custom_id"] for row in rows) == sorted(f"line-{n}" for n in range(LINES))
            assert all(row["response"]["status_code"] == httpx.codes.OK for row in rows)


async def _batch(client: openai.AsyncOpenAI, model: ModelName) -> str:
    lines = "".join(
        json.dumps({"custom_id": f"line-{n}", "method": "POST", "url": CHAT, "body": body(model, max_tokens=40)}) + "\n"
        for n in range(LINES)
    )
    file = await client.files.create(file=("lines.jsonl", lines.encode()), purpose="batch")
    made = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    return made.id


async def _progress(client: openai.AsyncOpenAI, batch: str) -> bool:
    counts = (await client.batches.retrieve(batch)).request_counts
    return counts is not None and counts.completed > 0


async def _over(client: openai.AsyncOpenAI, batch: str) -> bool:
    return (await client.batches.retrieve(batch)).status == "completed"


async def test_a_worker_with_another_map_is_told(three: ThreeServers) -> None:
    await three.site.gateway()
    strayed = await three.site.fleet.worker(served_model_name=ALPHA, model_redis="")
    await wait_until(lambda: strayed.told("model_astray"), within=PATIENCE, what="the worker is told")
    (entry,) = strayed.told("model_astray")
    there = f"redis://127.0.0.1:{three.servers['a'].port}/0"
    assert entry["error"].startswith("Model alpha is served at home (MILLSTREAM_REDIS_URL), and the gateways look for")
    assert there in entry["error"] and "MILLSTREAM_MODEL_REDIS" in entry["error"]
    found = await examine(DoctorSettings(redis_url=three.home.url, model_redis=three.places))
    assert [each for each in found if each.grade == "bad" and "Model alpha is served at home" in each.what]
    right = await three.worker(ALPHA)
    await asyncio.sleep(0)
    assert right.told("model_astray") == []
