"""The first moments of `millstream up`: requests that come early, and models of the time before."""

import asyncio
from pathlib import Path

import httpx

from millstream.common.broker.embedded import free_port
from tests.cli.up_process import up
from tests.harness.support import wait_until

QUESTION = {"model": "sim", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


async def models(address: str) -> list[str]:
    async with httpx.AsyncClient(timeout=60) as client:
        return [each["id"] for each in (await client.get(f"{address}/models")).json()["data"]]


async def first_answer(port: int) -> httpx.Response:
    """Asks from before the gateway listens on, as clients do that are started together with it."""
    async with httpx.AsyncClient(timeout=60) as client:
        while True:
            try:
                return await client.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=QUESTION)
            except httpx.ConnectError:
                await asyncio.sleep(0.01)


async def test_a_request_as_soon_as_the_gateway_listens_waits_for_the_worker(tmp_path: Path) -> None:
    port = free_port()
    with up(tmp_path, "--port", str(port)) as cluster:
        answer = await first_answer(port)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"]
        assert await cluster.end() == 0


async def test_a_model_of_an_earlier_start_does_not_stay_listed(tmp_path: Path) -> None:
    with up(tmp_path, "--engine", "simulated", "--model", "before") as first:
        assert await models(await first.ready()) == ["before"]
        assert await first.end() == 0
    with up(tmp_path, forget_models_after="2") as second:
        address = await second.ready()
        await wait_until(lambda: is_all(address, ["sim"]), within=60)
        assert await second.end() == 0


async def is_all(address: str, names: list[str]) -> bool:
    return await models(address) == names
