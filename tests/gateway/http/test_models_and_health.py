"""Listing models, liveness, readiness, figures."""

import asyncio
import threading
from collections.abc import MutableMapping
from typing import Any

import anthropic
import httpx
import openai
import pytest
from openai.types import Batch, Completion, CreateEmbeddingResponse, FileObject, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from structlog.testing import capture_logs

from millstream.common.broker.models.directory import ModelInfo
from millstream.common.broker.models.load_requests import ModelLoader
from millstream.common.errors import Unavailable
from millstream.common.job import WorkerId
from millstream.gateway.apis.anthropic.examples import MESSAGE
from millstream.gateway.apis.batches.examples import BATCH
from millstream.gateway.apis.chat.examples import CHAT, CHAT_STREAM
from millstream.gateway.apis.completions.examples import COMPLETION
from millstream.gateway.apis.computing.embeddings.examples import EMBEDDINGS
from millstream.gateway.apis.files.examples import FILE
from millstream.gateway.apis.registry import ENDPOINTS
from millstream.gateway.apis.responses.examples import RESPONSE
from millstream.gateway.http.app import DirectApp
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster
from tests.gateway.strict import strictly
from tests.harness.support import wait_until


async def test_models(client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    [listed] = (await client.models.list()).data
    assert (listed.id, listed.object, listed.created) == (MODEL, "model", 1_700_000_000)
    assert listed == await client.models.retrieve(MODEL)
    extra = (await http.get(f"/v1/models/{MODEL}")).json()
    assert set(Model.model_fields) - {"shutdown_date"} <= set(extra)
    assert (extra["context_length"], extra["workers"], extra["capabilities"]) == (2048, 1, ["chat", "completions"])
    with pytest.raises(openai.NotFoundError, match=MODEL):
        await client.models.retrieve("nobody/knows")


async def test_aliases(cluster: ScriptedCluster) -> None:
    ask = {"messages": [{"role": "user", "content": "hi"}]}
    async with gateway(cluster, aliases=[f"gpt-4o={MODEL}"]) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.post("/v1/chat/completions", json=ask | {"model": "gpt-4o"})
        assert answer.json()["model"] == MODEL and answer.headers["openai-model"] == MODEL
        assert (await http.get("/v1/models/gpt-4o")).json()["id"] == MODEL
        assert (await http.post("/v1/chat/completions", json=ask | {"model": "gpt-5"})).status_code == 404
    async with gateway(cluster, aliases=[f"*={MODEL}"]) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.post("/v1/chat/completions", json=ask | {"model": "gpt-5"})).json()["model"] == MODEL


async def test_ready(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    assert (await http.get("/ready")).status_code == 200
    two = await http.get("/ready?workers=2")
    assert two.status_code == 503 and "1 of 2" in two.json()["reason"]
    cluster.directory.listed = []
    assert (await http.get("/ready?workers=0")).status_code == 200
    nobody = await http.get("/ready")
    assert nobody.status_code == 503 and "worker" in nobody.json()["reason"]
    cluster.directory.listed = [ModelInfo(MODEL, [], 0, loaders=(ModelLoader(WorkerId("w"), "host", 1),))]
    assert (await http.get("/ready")).status_code == 200  # loaded as soon as somebody asks for it
    cluster.directory.fault = Unavailable("Redis does not answer.")
    away = await http.get("/ready")
    assert (away.status_code, away.json()["redis"]) == (503, False)
    assert (await http.get("/health")).json() == {"status": "ok"}


async def test_probes_are_told_at_debug_and_requests_at_info(http: httpx.AsyncClient) -> None:
    """A probe every five seconds would be 17,000 lines a day."""
    paths = ["/health", "/ready", "/metrics", "/v1/models"]
    with capture_logs() as lines:
        for path in paths:
            await http.get(path)
        await wait_until(lambda: len(answered(lines)) == len(paths))
    assert answered(lines) == dict.fromkeys(paths[:3], "debug") | {"/v1/models": "info"}


def answered(lines: list[MutableMapping[str, Any]]) -> dict[str, str]:
    return {line["path"]: line["log_level"] for line in lines if line["event"] == "request_answered"}


async def test_metrics_and_version(http: httpx.AsyncClient) -> None:
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    await http.post("/v1/chat/completions", json=ask)
    await http.post("/v1/chat/completions", json=ask | {"stream": True})
    text = (await http.get("/metrics")).text
    assert f'millstream_gateway_completion_tokens_total{{model="{MODEL}",tenant="default"}} 8.0' in text
    assert 'millstream_gateway_requests_total{route="/v1/chat/completions",status="200"} 2.0' in text
    assert set((await http.get("/version")).json()) == {"version"}


async def test_documents(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            assert {"4XX", "5XX"} < set(told["responses"]) and "422" not in told["responses"], (method, path)
            for kind, answer in next(iter(told["responses"].values()))["content"].items():
                assert kind != "application/json" or answer["example"], (method, path)
            for kind, asked in told.get("requestBody", {}).get("content", {}).items():
                shape = document["components"]["schemas"].get(asked["schema"].get("$ref", "").rsplit("/")[-1], {})
                assert shape.get("examples") or kind == "multipart/form-data", (method, path)


async def test_others_are_served_while_the_documents_are_built(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    others_served = threading.Event()

    def built(app: DirectApp) -> dict[str, Any]:
        return {"paths": {}, "others_served": others_served.wait(20)}

    monkeypatch.setattr(DirectApp, "openapi", built)
    asked = [asyncio.create_task(http.get("/openapi.json")) for _ in range(2)]
    await asyncio.sleep(0)
    assert (await http.get("/health")).status_code == 200
    others_served.set()
    assert [(await each).json()["others_served"] for each in asked] == [True, True]


async def test_each_stream_is_told_beside_the_whole_answer(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    for path, endpoint in ENDPOINTS.items():
        told = document["paths"][path]["post"]["responses"]["200"]["content"]
        streams = {kind: answer for kind, answer in told.items() if kind != "application/json"}
        assert len(streams) == (endpoint.stream is not None), path
        assert all(answer.keys() == {"example"} for answer in streams.values()), path


async def test_no_stream_of_events_has_a_schema(http: httpx.AsyncClient) -> None:
    """It would be taken for that of each event."""
    document = (await http.get("/openapi.json")).json()
    told = [answers["responses"] for methods in document["paths"].values() for answers in methods.values()]
    streams = [of["content"].get("text/event-stream") for answers in told for of in answers.values() if "content" in of]
    assert any(streams)
    assert all("schema" not in stream for stream in streams if stream)


def test_examples_are_true() -> None:
    strictly(ChatCompletion, CHAT)
    strictly(Completion, COMPLETION)
    strictly(CreateEmbeddingResponse, EMBEDDINGS)
    strictly(Response, RESPONSE)
    strictly(FileObject, FILE)
    strictly(Batch, BATCH)
    strictly(anthropic.types.Message, MESSAGE)
    strictly(ChatCompletionChunk, CHAT_STREAM.split("\n")[1].removeprefix("data: "))
