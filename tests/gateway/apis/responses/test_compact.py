"""A conversation made short, and gone on with from its summary; and what clients probe that is not here."""

from typing import Any

import httpx
import openai

from millstream.common.job import ChatPrompt
from tests.gateway.scripted import MODEL, ScriptedCluster, said
from tests.gateway.strict import Shortened, strictly

ITEMS: list[Any] = [
    {"type": "message", "role": "user", "content": "Grind."},
    {"type": "function_call", "call_id": "c", "name": "grind", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "flour"},
    {"type": "message", "role": "assistant", "content": "Done."},
    {"type": "message", "role": "user", "content": "Thanks."},
]


def written(cluster: ScriptedCluster) -> list[dict[str, Any]]:
    """The messages that the model saw last."""
    prompt = cluster.queue.requests[-1].input
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages


async def test_a_conversation_is_made_short_and_gone_on_with(
    client: openai.AsyncOpenAI, http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    cluster.queue.script = lambda _: said("Corn was ground.")
    body = (await http.post("/v1/responses/compact", json={"model": MODEL, "input": ITEMS})).json()
    assert [item["type"] for item in body["output"]] == ["message", "message", "compaction"]
    assert strictly(Shortened, body).usage.output_tokens == 4
    assert [message["role"] for message in written(cluster)] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "user",
    ]
    assert "summary" in written(cluster)[-1]["content"]
    go_on = [*body["output"], {"type": "message", "role": "user", "content": "And now?"}]
    answer = await client.responses.create(model=MODEL, input=go_on)
    contents = [message["content"] for message in written(cluster)]
    assert contents[:2] == ["Grind.", "Thanks."] and contents[3] == "And now?"
    assert contents[2].endswith("Corn was ground.")
    again = await client.responses.compact(model=MODEL, previous_response_id=answer.id)  # type: ignore[arg-type]
    assert [item.type for item in again.output] == ["message"] * 3 + ["compaction"]
    assert any("Corn was ground." in str(message["content"]) for message in written(cluster))


async def test_what_cannot_be_made_short(http: httpx.AsyncClient) -> None:
    nothing = await http.post("/v1/responses/compact", json={"model": MODEL})
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (400, "input")
    unknown = await http.post("/v1/responses/compact", json={"model": MODEL, "previous_response_id": "resp_x"})
    assert unknown.json()["error"]["code"] == "previous_response_not_found"
    assert (await http.post("/v1/responses/compact", json={"model": "nobody", "input": "x"})).status_code == 404


async def test_a_summary_of_another_server_is_left_out(client: openai.AsyncOpenAI, cluster: ScriptedCluster) -> None:
    foreign: list[Any] = [{"type": "compaction", "encrypted_content": "gAAAA"}, ITEMS[0]]
    await client.responses.create(model=MODEL, input=foreign)
    assert [message["content"] for message in written(cluster)] == ["Grind."]


async def test_what_clients_probe_and_nobody_does_here(http: httpx.AsyncClient) -> None:
    known = {"moderations": "moderation model", "images/generations": "images", "threads": "conversations"}
    for path, words in known.items():
        answer = await http.post(f"/v1/{path}", json={"input": "x"})
        error = answer.json()["error"]
        assert answer.status_code == 404 and words in error["message"] and error["type"] == "invalid_request_error"
    unknown = (await http.post("/v1/moderationsx", json={})).json()["error"]["message"]
    assert unknown == "Invalid URL (POST /v1/moderationsx)"
