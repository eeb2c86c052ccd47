"""Conversations that began elsewhere, and tools that answer with more than text: nothing of them ends a session."""

from typing import Any

import httpx
import pytest

from millstream.common.job import ChatPrompt
from millstream.gateway.apis.responses.input.sealing import sealed
from tests.gateway.scripted import MODEL, ScriptedCluster

IMAGE = "[image left out: this model reads text only]"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
BASE64 = {"type": "base64", "media_type": "image/png", "data": PIXEL}
SHELL_CALL = {
    "type": "local_shell_call",
    "call_id": "s",
    "status": "completed",
    "action": {"type": "exec", "command": ["ls"]},
}
USER: dict[str, Any] = {"type": "message", "role": "user", "content": "go on"}


def written(cluster: ScriptedCluster) -> list[dict[str, Any]]:
    """The messages that the model saw last."""
    prompt = cluster.queue.requests[-1].input
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages


async def told(http: httpx.AsyncClient, cluster: ScriptedCluster, result: Any) -> str:
    """Returns what the model reads of a tool's result in Anthropic's form."""
    messages = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Read", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": result}]},
    ]
    answer = await http.post("/v1/messages", json={"model": MODEL, "max_tokens": 9, "messages": messages})
    assert answer.status_code == 200, answer.text
    return str(written(cluster)[-1]["content"])


async def test_an_image_in_a_tools_answer_becomes_words(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    blocks = [{"type": "text", "text": "seen: "}, {"type": "image", "source": BASE64}]
    assert await told(http, cluster, blocks) == f"seen: {IMAGE}"
    viewed = [
        {"type": "function_call", "call_id": "c1", "name": "view_image", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": [{"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}],
        },
    ]
    answer = await http.post("/v1/responses", json={"model": MODEL, "input": [*viewed, USER]})
    assert answer.status_code == 200 and written(cluster)[1]["content"] == IMAGE
    again = {"model": MODEL, "previous_response_id": answer.json()["id"], "input": "hello"}
    assert (await http.post("/v1/responses", json=again)).status_code == 200
    listed = await http.get(f"/v1/responses/{answer.json()['id']}/input_items?order=asc")
    assert listed.json()["data"][1]["output"] == IMAGE
    messages = [
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
    ]
    answer = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": messages})
    assert answer.status_code == 200 and written(cluster)[1]["content"] == IMAGE


async def test_an_image_that_a_client_passes_on_for_a_tool_becomes_words(
    http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    """Cline puts what a tool saw into a user's message right after the tool's answer."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    seen = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]}
    asked, answered = (
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "."},
    )
    chat = {"model": MODEL, "messages": [USER | {}, asked, answered, seen]}
    del chat["messages"][0]["type"]
    assert (await http.post("/v1/chat/completions", json=chat)).status_code == 200
    assert written(cluster)[-1] == {"role": "user", "content": IMAGE}
    own = chat | {"messages": [*chat["messages"], {"role": "assistant", "content": "A mill."}, seen]}
    refused = await http.post("/v1/chat/completions", json=own)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "messages[5].content[0].type"
    image = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}
    items = [
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "."},
        image,
    ]
    assert (await http.post("/v1/responses", json={"model": MODEL, "input": items})).status_code == 200
    assert written(cluster)[-1] == {"role": "user", "content": IMAGE}
    assert (await http.post("/v1/responses", json={"model": MODEL, "input": [USER, image]})).status_code == 400


async def test_a_users_own_image_is_refused_in_words_that_clients_know(http: httpx.AsyncClient) -> None:
    content = [{"type": "text", "text": "see"}, {"type": "image", "source": BASE64}]
    body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
    answer = await http.post("/v1/messages", json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["type"] == "invalid_request_error"
    assert error["message"].startswith("messages[0].content[1]: Could not process image")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ([{"type": "tool_reference", "tool_name": "WebFetch"}], "The tool `WebFetch` can be called now.\n"),
        (
            [
                {
                    "type": "search_result",
                    "source": "https://example.org",
                    "title": "Mills",
                    "content": [{"type": "text", "text": "They grind."}],
                    "citations": {"enabled": True},
                }
            ],
            "Mills\nhttps://example.org\nThey grind.\n",
        ),
        (
            [
                {
                    "type": "document",
                    "title": "a.txt",
                    "source": {"type": "text", "media_type": "text/plain", "data": "Corn."},
                }
            ],
            "a.txt\nCorn.\n",
        ),
        (
            [{"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "Corn."}]}}],
            "Corn.\n",
        ),
        (
            [{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}}],
            "[document left out: this model reads text only]",
        ),
    ],
)
async def test_what_tools_answer_in_anthropics_form(
    http: httpx.AsyncClient, cluster: ScriptedCluster, result: Any, words: str
) -> None:
    assert await told(http, cluster, result) == words


async def test_text_documents_of_the_user(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Corn."}}
    content = [document, {"type": "text", "text": "Sum up."}]
    body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
    assert (await http.post("/v1/messages", json=body)).status_code == 200
    assert written(cluster)[0]["content"] == "Corn.\nSum up."
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}}
    body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": [pdf]}]}
    assert (await http.post("/v1/messages", json=body)).status_code == 400


async def test_what_anthropics_own_tools_did_is_left_out(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    content = [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "mills"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "web_search_result", "url": "u"}]},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": {"type": "web_search_tool_result_error"}},
        {"type": "text", "text": "Found.", "citations": [{"type": "web_search_result_location", "url": "u"}]},
    ]
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": "so"},
    ]
    body = {"model": MODEL, "max_tokens": 9, "messages": messages}
    assert (await http.post("/v1/messages", json=body)).status_code == 200
    assert [message["content"] for message in written(cluster)] == ["?", "Found.", "so"]


async def test_the_block_about_billing_never_reaches_a_prompt(
    http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    affinities: list[object] = []
    for number in range(2):
        billing = {"type": "text", "text": f"x-anthropic-billing-header: cc_version=2; cch={number:05x};"}
        system = [billing, {"type": "text", "text": "You code." * 100}]
        body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "system": system}
        assert (await http.post("/v1/messages", json=body)).status_code == 200
        assert written(cluster)[0] == {"role": "system", "content": "You code." * 100}
        affinities.append(cluster.queue.submissions[-1].affinity)
    assert affinities[0] == affinities[1]


async def test_items_of_other_servers(
    http: httpx.AsyncClient, cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # items come back as they came, and some of these are none of OpenAI's
    items = [
        {"type": "message", "role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAABo-secret_of_another"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
        SHELL_CALL,
        {"type": "local_shell_call_output", "call_id": "s", "output": "a.py"},
        {"type": "tool_search_call", "call_id": "t", "arguments": {"query": "x"}},
        {"type": "tool_search_output", "call_id": "t", "tools": []},
        {"type": "mcp_call", "id": "m", "server_label": "mill", "name": "grind", "arguments": "{}", "output": "flour"},
        {"type": "computer_call", "call_id": "c", "action": {"type": "screenshot"}},
        {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "x"}},
        USER,
    ]
    answer = await http.post("/v1/responses", json={"model": MODEL, "input": items})
    assert answer.status_code == 200, answer.text
    seen = [(message["role"], message["content"] or None) for message in written(cluster)]
    assert seen == [
        ("user", "hi"),
        ("assistant", None),
        ("tool", "a.py"),
        ("assistant", None),
        ("tool", "flour"),
        ("assistant", None),
        ("tool", IMAGE),
        ("user", "go on"),
    ]
    names = [m["tool_calls"][0]["function"]["name"] for m in written(cluster) if m["role"] == "assistant"]
    assert names == ["local_shell", "mcp__mill__grind", "computer"]
    listed = (await http.get(f"/v1/responses/{answer.json()['id']}/input_items?order=asc")).json()["data"]
    assert [item["type"] for item in listed] == [item["type"] for item in items] and listed[2] == items[2]
    again = {"model": MODEL, "previous_response_id": answer.json()["id"], "input": "and?"}
    assert (await http.post("/v1/responses", json=again)).status_code == 200
    assert [(m["role"], m["content"] or None) for m in written(cluster)][: len(seen)] == seen


async def test_our_own_sealed_thoughts_come_back(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    items = [
        {"type": "reasoning", "summary": [], "encrypted_content": sealed("hm")},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ]
    assert (await http.post("/v1/responses", json={"model": MODEL, "input": items})).status_code == 200
    assert written(cluster)[0]["reasoning_content"] == "hm"
