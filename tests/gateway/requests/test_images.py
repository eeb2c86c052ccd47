"""Images reach the models whose card says that they see, and no others."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from millstream.common.job import ChatPrompt
from tests.gateway.scripted import MODEL, ScriptedCluster

PIXEL = "data:image/png;base64,aGk="
SHOWN = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
WORDS = {"type": "text", "text": "What is it?"}


def ask(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": list(parts)}]}


def seeing(cluster: ScriptedCluster) -> None:
    [info] = cluster.directory.listed
    cluster.directory.listed = [replace(info, capabilities=("chat", "completions", "images"))]


async def test_a_model_that_sees_is_shown_the_parts_as_they_are(
    http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    seeing(cluster)
    assert (await http.post("/v1/chat/completions", json=ask(WORDS, SHOWN))).status_code == 200
    [job] = cluster.queue.jobs.values()
    assert isinstance(job.request.input, ChatPrompt)
    assert job.request.input.messages == [{"role": "user", "content": [WORDS, SHOWN]}]


async def test_text_in_parts_is_one_text_for_any_model(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    seeing(cluster)
    await http.post("/v1/chat/completions", json=ask(WORDS, WORDS))
    [job] = cluster.queue.jobs.values()
    assert isinstance(job.request.input, ChatPrompt)
    assert job.request.input.messages[0]["content"] == "What is it?" * 2


@pytest.mark.parametrize(
    ("sees", "part", "param"),
    [
        (False, SHOWN, "messages[0].content[0].type"),
        (True, {"type": "image_url"}, "messages[0].content[0].image_url"),
        (
            True,
            {"type": "image_url", "image_url": {"url": "http://host/a.png"}},
            "messages[0].content[0].image_url.url",
        ),
        (True, {"type": "input_audio"}, "messages[0].content[0].type"),
    ],
)
async def test_what_cannot_be_shown_is_refused_by_name(
    http: httpx.AsyncClient, cluster: ScriptedCluster, sees: bool, part: dict[str, Any], param: str
) -> None:
    if sees:
        seeing(cluster)
    refused = await http.post("/v1/chat/completions", json=ask(part, *([SHOWN] if sees and part != SHOWN else [])))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
