"""A model may be called anything: each route serves it by that name, and no answer blames the client for it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest

from millstream.common.broker.connection.broker import Broker
from millstream.common.broker.models.directory import model_info
from millstream.common.job import ModelName, WorkerId
from millstream.gateway.services.connect import connect
from millstream.gateway.settings import GatewaySettings
from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings
from millstream.worker.service.service import ModelService
from millstream.worker.settings import WorkerSettings
from tests.harness.serving import serving
from tests.harness.support import wait_until

NAMES = ["通义千问", "émodèle", "m[/v2] 🦀", "a/b:c{d}", "100%", "two words", "tab\there"]
HI = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI, "max_tokens": 2},
    "/v1/completions": {"prompt": "hi", "max_tokens": 2},
    "/v1/responses": {"input": "hi", "max_output_tokens": 2},
    "/v1/messages": {"messages": HI, "max_tokens": 2},
    "/v1/messages/count_tokens": {"messages": HI},
    "/api/chat": {"messages": HI, "stream": False},
    "/tokenize": {"prompt": "hi"},
}


@asynccontextmanager
async def served(redis_url: str, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway and a worker of that model, around a real queue."""
    async with Broker(redis_url) as broker:
        engine = SimulatedEngine(SimulatedSettings(name=name))
        settings = WorkerSettings(redis_url=redis_url, drain=0, lease=1)
        service = ModelService(broker, WorkerId("w"), engine, engine.load(), settings)
        stop = asyncio.Event()
        task = asyncio.create_task(service.run(stop))

        async def ready() -> bool:
            return (await model_info(broker, ModelName(name))).live == 1

        await wait_until(ready)
        try:
            async with (
                serving(GatewaySettings(redis_url=redis_url, port=0, drain=1.0), connect) as url,
                httpx.AsyncClient(base_url=url, timeout=60) as http,
            ):
                yield http
        finally:
            stop.set()
            await task
            engine.close()


@pytest.mark.parametrize("name", NAMES)
async def test_every_route_serves_a_model_by_any_name(redis_url: str, name: str) -> None:
    async with served(redis_url, name) as http:
        for path, body in BODIES.items():
            answer = await http.post(path, json=body | {"model": name})
            assert answer.status_code == 200, (path, answer.text)
            if "model" in answer.json():
                assert answer.json()["model"] == name, path
            if "openai-model" in answer.headers:
                told = answer.headers["openai-model"]
                assert told.isascii() and name in (told, unquote(told))
        looked = await http.get(f"/v1/models/{quote(name, safe='')}")
        assert looked.status_code == 200 and looked.json()["id"] == name
        listed = await http.get("/v1/models")
        assert [model["id"] for model in listed.json()["data"]] == [name]
        missing = await http.post("/v1/chat/completions", json={"messages": HI, "model": name + "x"})
        assert missing.status_code == 404 and name in json.loads(missing.text)["error"]["message"]
        assert (await http.get("/metrics")).status_code == 200


async def test_a_stream_of_a_model_by_any_name_goes_on_where_it_was(redis_url: str) -> None:
    name = NAMES[0]
    async with served(redis_url, name) as http:
        body = {"model": name, "messages": HI, "max_tokens": 5, "stream": True}
        whole = (await http.post("/v1/chat/completions", json=body)).text
        place = next(line.removeprefix("id: ") for line in whole.splitlines() if line.startswith("id: "))
        rest = (await http.post("/v1/chat/completions", json=body, headers={"last-event-id": place})).text
        assert rest and whole.endswith(rest[rest.index("data:") :])
        assert "[DONE]" in rest


async def test_half_a_character_is_the_clients_fault(redis_url: str) -> None:
    async with served(redis_url, "m") as http:
        body = b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}'
        answer = await http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400 and "surrogate" in answer.text
