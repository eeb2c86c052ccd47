"""Images reach the models whose card says that they see, and no others, through every API that shows some."""

import base64
import io
import struct
from typing import Any
from zlib import crc32

import httpx
import pytest

from millstream.common.job import ChatPrompt, TokenizeInput
from millstream.gateway.requests import vision
from tests.gateway.conftest import gateway, let_see
from tests.gateway.scripted import MODEL, ScriptedCluster

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
DATA = f"data:image/png;base64,{PIXEL}"
SHOWN = {"type": "image_url", "image_url": {"url": DATA}}
WORDS = {"type": "text", "text": "What is it?"}
BLOCK = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
INPUT = {"type": "input_image", "image_url": DATA}
BELOW = "[image: see the next message]"
LEFT_OUT = "[image left out: this model reads text only]"


def ask(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": list(parts)}]}


def written(cluster: ScriptedCluster) -> list[dict[str, Any]]:
    """The messages that the model sees last."""
    prompt = cluster.queue.requests[-1].input
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages


def png(width: int, height: int) -> str:
    """The beginning of a picture of this size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", crc32(header))
    return "data:image/png;base64," + base64.b64encode(data + bytes(32)).decode()


async def test_a_model_that_sees_is_shown_the_parts_as_they_are(
    http: httpx.AsyncClient, seeing: ScriptedCluster
) -> None:
    shown = {"type": "image_url", "image_url": {"url": DATA, "detail": "low"}}
    assert (await http.post("/v1/chat/completions", json=ask(WORDS, shown))).status_code == 200
    assert written(seeing) == [{"role": "user", "content": [WORDS, shown]}]


async def test_text_in_parts_is_one_text_for_any_model(http: httpx.AsyncClient, seeing: ScriptedCluster) -> None:
    await http.post("/v1/chat/completions", json=ask(WORDS, WORDS))
    assert written(seeing)[0]["content"] == "What is it?" * 2


async def test_anthropics_images_are_shown(http: httpx.AsyncClient, seeing: ScriptedCluster) -> None:
    body = ask(WORDS, BLOCK) | {"max_tokens": 9}
    answer = await http.post("/v1/messages", json=body)
    assert answer.status_code == 200, answer.text
    assert written(seeing) == [{"role": "user", "content": [WORDS, SHOWN]}]
    counted = await http.post("/v1/messages/count_tokens", json=ask(WORDS, BLOCK))
    assert counted.status_code == 200
    work = seeing.queue.requests[-1].input
    assert isinstance(work, TokenizeInput) and work.messages == [{"role": "user", "content": "What is it?"}]


async def test_the_responses_apis_images_are_shown_listed_and_remembered(
    http: httpx.AsyncClient, seeing: ScriptedCluster
) -> None:
    said = {"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, INPUT]}
    first = await http.post("/v1/responses", json={"model": MODEL, "input": [said]})
    assert first.status_code == 200, first.text
    assert written(seeing) == [{"role": "user", "content": [WORDS, SHOWN]}]
    identity = first.json()["id"]
    [listed] = (await http.get(f"/v1/responses/{identity}/input_items")).json()["data"]
    assert [part["type"] for part in listed["content"]] == ["input_text", "input_image"]
    assert listed["content"][1]["image_url"] == DATA
    again = {"model": MODEL, "previous_response_id": identity, "input": "and now?"}
    assert (await http.post("/v1/responses", json=again)).status_code == 200
    assert written(seeing)[0] == {"role": "user", "content": [WORDS, SHOWN]}


async def test_ollamas_images_are_shown(http: httpx.AsyncClient, seeing: ScriptedCluster) -> None:
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "What is it?", "images": [PIXEL]}]}
    assert (await http.post("/api/chat", json=chat)).status_code == 200
    assert written(seeing) == [{"role": "user", "content": [WORDS, SHOWN]}]
    prompt = {"model": MODEL, "prompt": "What is it?", "images": [PIXEL]}
    assert (await http.post("/api/generate", json=prompt)).status_code == 200
    assert written(seeing) == [{"role": "user", "content": [WORDS, SHOWN]}]


async def test_what_tools_see_is_shown_after_their_answers(http: httpx.AsyncClient, seeing: ScriptedCluster) -> None:
    """A tool's message holds text only, and its client cannot help it if what the tool found is no image."""
    broken = {"type": "image_url", "image_url": {"url": "data:,"}}
    calls = [{"id": each, "function": {"name": "f", "arguments": "{}"}} for each in ("c", "d")]
    messages = [
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": [WORDS, SHOWN]},
        {"role": "tool", "tool_call_id": "d", "content": [broken]},
        {"role": "user", "content": "go on"},
    ]
    assert (await http.post("/v1/chat/completions", json={"model": MODEL, "messages": messages})).status_code == 200
    seen = written(seeing)
    assert [each["role"] for each in seen] == ["assistant", "tool", "tool", "user", "user"]
    assert [each["content"] for each in seen[1:]] == [f"What is it?{BELOW}", LEFT_OUT, [SHOWN], "go on"]


async def test_what_agents_tools_see_is_shown_too(http: httpx.AsyncClient, seeing: ScriptedCluster) -> None:
    used = {"type": "tool_use", "id": "t", "name": "Read", "input": {}}
    lost = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [BLOCK, lost]}
    messages = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": [used]},
        {"role": "user", "content": [result, WORDS]},
    ]
    answer = await http.post("/v1/messages", json={"model": MODEL, "max_tokens": 9, "messages": messages})
    assert answer.status_code == 200, answer.text
    assert [each["content"] for each in written(seeing)[2:]] == [BELOW + LEFT_OUT, [SHOWN, WORDS]]
    viewed = [
        {"type": "function_call", "call_id": "c", "name": "view_image", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [INPUT]},
        {"role": "user", "content": "go on"},
    ]
    answer = await http.post("/v1/responses", json={"model": MODEL, "input": viewed})
    assert answer.status_code == 200, answer.text
    assert [each["content"] for each in written(seeing)[1:]] == [BELOW, [SHOWN], "go on"]


URL = "messages[0].content[0].image_url.url"


@pytest.mark.parametrize(
    ("sees", "part", "param"),
    [
        (False, SHOWN, "messages[0].content[0].type"),
        (True, {"type": "image_url"}, "messages[0].content[0].image_url"),
        (True, {"type": "image_url", "image_url": {"url": "http://host/a.png"}}, URL),
        (True, {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}, URL),
        (True, {"type": "image_url", "image_url": {"url": "data:image/png;base64,??"}}, URL),
        (True, {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, URL),
        (True, {"type": "image_url", "image_url": {"url": png(100_000, 100_000)}}, URL),
        (True, {"type": "input_audio"}, "messages[0].content[0].type"),
    ],
)
async def test_what_cannot_be_shown_is_refused_by_name(
    http: httpx.AsyncClient, cluster: ScriptedCluster, sees: bool, part: dict[str, Any], param: str
) -> None:
    if sees:
        let_see(cluster)
    refused = await http.post("/v1/chat/completions", json=ask(part, *([SHOWN] if sees and part != SHOWN else [])))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_an_image_larger_than_allowed_is_refused(seeing: ScriptedCluster) -> None:
    async with gateway(seeing, max_image_bytes=20) as url, httpx.AsyncClient(base_url=url) as http:
        refused = await http.post("/v1/chat/completions", json=ask(SHOWN))
    assert refused.status_code == 400 and "larger than 20 bytes" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", ask(WORDS, BLOCK) | {"max_tokens": 9}),
        ("/v1/responses", {"model": MODEL, "input": [{"role": "user", "content": [INPUT]}]}),
        ("/v1/chat/completions", ask(SHOWN, SHOWN)),
    ],
)
async def test_an_image_is_looked_at_once(
    http: httpx.AsyncClient,
    seeing: ScriptedCluster,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, Any],
) -> None:
    """Messages and Responses are read as chats, which are read again."""
    looked: list[object] = []
    size_of = vision.imagesize.get

    def counted(image: io.BytesIO) -> tuple[int, int]:
        looked.append(image)
        return size_of(image)

    monkeypatch.setattr(vision.imagesize, "get", counted)
    assert (await http.post(path, json=body)).status_code == 200
    assert len(looked) == 1
