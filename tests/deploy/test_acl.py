"""deploy/redis/users.acl: a user that may do what Millstream does, and nothing else."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest_asyncio
from redis.asyncio import Redis

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.embedded import EmbeddedValkey, free_port
from millstream.common.broker.models.inspection import backlogs, server_figures
from tests.common.broker.connection.test_other_servers import node_of_a_cluster, run_a_job
from tests.gateway.background.processes import BackgroundProcesses, processes
from tests.harness.support import wait_until

ROOT = Path(__file__).parents[2]
FILE = (ROOT / "deploy" / "redis" / "users.acl").read_text()
[USER] = [line.removeprefix("user ") for line in FILE.splitlines() if line.startswith("user ")]
COMMANDS = set(re.findall(r"\+([a-z|]+)", USER))
SCRIPTS = "".join(path.read_text() for path in (ROOT / "common" / "broker" / "scripts").rglob("*.lua"))


OF_OPERATORS = ("doctor", "usage", "batches", "keys create --tenant acme")
FORBIDDEN = ("FLUSHALL", "SHUTDOWN", "KEYS *", "CONFIG SET maxmemory 1", "GET other", "DEBUG SLEEP 0", "ACL LIST")
PASSWORD = "open-sesame"
PACE = ["--engine", "simulated", "--simulated-rate", "100", "--simulated-length", "12"]


def used_by_scripts() -> set[str]:
    called = re.findall(r"""(?:p?call|once)\(\s*'([A-Z]+)'(?:, '([A-Z]+)')?""", SCRIPTS)
    parts = ("PUBSUB", "XGROUP")
    return {f"{command}|{part}".lower() if command in parts else command.lower() for command, part in called}


def test_whatever_a_script_calls_is_allowed() -> None:
    assert len(used_by_scripts()) > 30 and not used_by_scripts() - COMMANDS


def line(number: int) -> bytes:
    body = {"model": "simulated", "messages": [{"role": "user", "content": f"question {number}"}]}
    request = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request).encode() + b"\n"


@pytest_asyncio.fixture
async def operator(own_valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    """The server's own user, who made ours."""
    async with operator_of(own_valkey) as redis:
        yield redis


@asynccontextmanager
async def operator_of(valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey.url, decode_responses=True) as redis:
        name, *rules = USER.replace("PASSWORD", PASSWORD).split()
        await redis.execute_command("ACL", "SETUSER", name, *rules)
        yield redis


async def refused(operator: Redis) -> list[str]:
    """Returns what was refused (a command, a key or a channel), and to whom."""
    told: list[dict[str, Any]] = await operator.acl_log()
    return [f"{entry['reason']} {entry['object']} ({entry['context']})" for entry in told]


async def test_a_cluster_with_a_batch_needs_no_more(
    own_valkey: EmbeddedValkey, operator: Redis, tmp_path: Path
) -> None:
    url = own_valkey.url.replace("redis://", f"redis://millstream:{PASSWORD}@")
    port = str(free_port())
    with processes(url, tmp_path, gateway_url=f"http://127.0.0.1:{port}") as cluster:
        cluster.start("gateway", "gateway", "--port", port)
        cluster.start("worker", "worker", *PACE)
        cluster.start("background", "background")
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=8) as client:
            await wait_until(lambda: served(client), within=60, every=0.1, what="a worker is there")
            await everyday_work(client)
            await a_worker_dies(client, cluster)
            await a_batch(client)
        for command in OF_OPERATORS:
            cluster.start(command, *command.split())
        for command in OF_OPERATORS:
            assert cluster.running[command].wait(60) == 0, cluster.log(command)
        for name in ("background", "worker", "gateway"):
            cluster.stop(name)
    assert await refused(operator) == []

    for command in FORBIDDEN:
        answer = await operator.execute_command("ACL", "DRYRUN", "millstream", *command.split())
        assert "no permissions" in answer, command


async def test_a_redis_cluster_needs_no_more(tmp_path: Path) -> None:
    async with node_of_a_cluster(tmp_path / "node") as node, operator_of(node) as operator:
        await operator.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await wait_until(lambda: is_up(operator), what="the cluster is there")
        async with Broker(f"redis+cluster://millstream:{PASSWORD}@127.0.0.1:{node.port}") as broker:
            assert await run_a_job(broker, "j1")
            [backlog] = await backlogs(broker)
            [figures] = await server_figures(broker)
        assert (backlog.fenced, figures.info["cluster_enabled"]) == (0, 1)
        assert await refused(operator) == []


async def is_up(operator: Redis) -> bool:
    return "cluster_state:ok" in str(await operator.execute_command("CLUSTER", "INFO", NEVER_DECODE=True))


async def served(client: openai.AsyncOpenAI) -> bool:
    try:
        return bool((await client.models.list()).data)
    except (openai.APIConnectionError, openai.InternalServerError):
        return False


async def everyday_work(client: openai.AsyncOpenAI) -> None:
    """Whole and streamed, with an idempotency key, stored, in the background, looked up, deleted, measured."""
    ask: Any = {"model": "simulated", "messages": [{"role": "user", "content": "hi"}]}
    for _ in range(2):
        await client.chat.completions.create(**ask, store=True, extra_headers={"Idempotency-Key": "once"})
    async for _ in await client.chat.completions.create(**ask, stream=True):
        pass
    [stored] = (await client.chat.completions.list()).data
    await client.chat.completions.delete(stored.id)
    response = await client.responses.create(model="simulated", input="hi", background=True)
    await wait_until(lambda: ended(client, response.id), within=60, every=0.1, what="the background response ends")
    async with httpx.AsyncClient() as http:
        metrics = await http.get(str(client.base_url).replace("/v1/", "/metrics"))
    assert "millstream_redis_memory_used_bytes{" in metrics.text


async def ended(client: openai.AsyncOpenAI, response: str) -> bool:
    return (await client.responses.retrieve(response)).status == "completed"


async def a_worker_dies(client: openai.AsyncOpenAI, cluster: BackgroundProcesses) -> None:
    stream = await client.chat.completions.create(
        model="simulated", messages=[{"role": "user", "content": "long"}], max_tokens=200, stream=True
    )
    words = 0
    async for _ in stream:
        words += 1
        if words == 5:
            cluster.kill("worker")
            cluster.start("worker")
    assert words > 100


async def a_batch(client: openai.AsyncOpenAI) -> None:
    file = await client.files.create(file=("in.jsonl", b"".join(map(line, range(20)))), purpose="batch")
    endpoint: Any = "/v1/chat/completions"
    batch = await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")

    async def over() -> bool:
        return (await client.batches.retrieve(batch.id)).status == "completed"

    await wait_until(over, within=120, every=0.2, what="the batch ends")
