"""Agents parse errors, lists and upgrades: these have the words and shapes that they look for."""

from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic import types as kinds

from millstream.common.broker.models.directory import ModelInfo
from millstream.common.chunk import Chunk
from millstream.common.errors import ContextLengthExceeded
from millstream.common.job import ChatPrompt, JobRequest, ModelName, Sampling
from millstream.worker.text.prompt import check_characters, room_for
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster
from tests.gateway.strict import strictly

SAID: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
MESSAGE: dict[str, Any] = {"model": MODEL, "max_tokens": 32000, "messages": SAID}
VERSION = {"anthropic-version": "2023-06-01"}


def refusal(prompt: int, asked: int, room: int) -> list[Chunk]:
    """The last chunk of a job for which the worker has no room."""
    request = JobRequest(ChatPrompt([]), Sampling(max_tokens=asked))
    with pytest.raises(ContextLengthExceeded) as caught:
        room_for(request, prompt, room)
    return [Chunk(error=caught.value.failure())]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (
            48243,
            "input length and `max_tokens` exceed context limit: 48243 + 32000 > 70000, "
            "decrease input length or `max_tokens` and try again",
        ),
        (80000, "prompt is too long: 80000 tokens > 70000 maximum"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_no_room_in_anthropics_words(
    http: httpx.AsyncClient, cluster: ScriptedCluster, prompt: int, words: str, stream: bool
) -> None:
    cluster.queue.script = lambda _: refusal(prompt, 32000, 70000)
    answer = await http.post("/v1/messages", json=MESSAGE | {"stream": stream})
    assert answer.status_code == 400
    assert answer.json()["error"] == {"type": "invalid_request_error", "message": words}
    chat = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": SAID})
    assert "maximum context length is 70000 tokens" in chat.json()["error"]["message"]


def test_a_prompt_too_long_to_be_counted_has_numbers_too() -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        check_characters(10_000_000, 2048, "messages")
    sizes = caught.value.sizes
    assert sizes is not None and sizes.prompt > sizes.room == 2048 and sizes.completion == 0


async def test_a_bound_beyond_the_room_is_refused_or_cut(cluster: ScriptedCluster) -> None:
    for setting, clamp in (("refuse", False), ("clamp", True)):
        async with gateway(cluster, excess_max_tokens=setting) as url, httpx.AsyncClient(base_url=url) as http:
            assert (await http.post("/v1/messages", json=MESSAGE)).status_code == 200
        request = cluster.queue.requests[-1]
        assert (request.sampling.max_tokens, request.sampling.clamp) == (32000, clamp)
    assert room_for(request, 48243, 70000) == 70000 - 48243
    with pytest.raises(ContextLengthExceeded):
        room_for(request, 70000, 70000)


async def test_a_websocket_is_told_to_use_http(http: httpx.AsyncClient) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    answer = await http.get("/v1/responses", headers=upgrade)
    assert answer.status_code == 426 and answer.headers["upgrade"] == "HTTP/1.1"
    assert answer.json()["error"]["code"] == "upgrade_required"
    plain = await http.get("/v1/responses")
    assert (plain.status_code, plain.headers["allow"]) == (405, "POST")


async def test_models_for_anthropics_clients(url: str, http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    more = [ModelInfo(ModelName(f"m{each}"), [], 0) for each in range(5)]
    cluster.directory.listed += more
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as claude:
        names = [model.id async for model in claude.models.list(limit=2)]
        assert names == [MODEL, *(model.name for model in more)]
        assert (await claude.models.retrieve(MODEL)).max_input_tokens == 2048
    missing = await http.get("/v1/models/nobody", headers=VERSION)
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    listed = (await http.get("/v1/models", headers=VERSION)).json()
    for entry in listed["data"]:
        strictly(kinds.ModelInfo, entry)
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == (MODEL, "m4", False)
    page = (await http.get("/v1/models", params={"before_id": "m3", "limit": 2}, headers=VERSION)).json()
    assert ([entry["id"] for entry in page["data"]], page["has_more"]) == (["m1", "m2"], True)
    for wrong in ({"limit": "0"}, {"limit": "x"}, {"after_id": "nobody"}):
        assert (await http.get("/v1/models", params=wrong, headers=VERSION)).status_code == 400
    ours = (await http.get("/v1/models")).json()["data"]
    assert ours[0]["object"] == "model" and ours[1]["max_model_len"] is None and ours[1]["capabilities"] is None


async def test_only_background_responses_are_cancelled(client: openai.AsyncOpenAI) -> None:
    answered = await client.responses.create(model=MODEL, input="hi")
    with pytest.raises(openai.BadRequestError, match="background"):
        await client.responses.cancel(answered.id)


async def test_a_response_has_every_field(client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    asked = {"model": MODEL, "input": "hi", "store": False, "presence_penalty": 0.5, "frequency_penalty": 1.5}
    told = (await http.post("/v1/responses", json=asked)).json()
    assert told["completed_at"] >= told["created_at"]
    assert (told["store"], told["presence_penalty"], told["frequency_penalty"]) == (False, 0.5, 1.5)
    plain = (await http.post("/v1/responses", json={"model": MODEL, "input": "hi"})).json()
    assert (plain["store"], plain["presence_penalty"], plain["frequency_penalty"]) == (True, 0.0, 0.0)


async def test_a_schema_beside_json_object_is_followed(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    form = {"type": "json_object", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    asked = {"model": MODEL, "messages": SAID, "response_format": form}
    assert (await http.post("/v1/chat/completions", json=asked)).status_code == 200
    guide = cluster.queue.requests[-1].guide
    assert guide is not None and guide.kind == "json_schema" and '"integer"' in guide.value
