"""An offer is not a demand: tools that nobody runs here are left out of what the model sees, echoed, and told."""

import json
from typing import Any

import httpx
import pytest
from openai.types import responses as kinds

from millstream.common.chunk import Chunk, Start, ToolDelta
from millstream.common.job import ChatPrompt
from tests.gateway.apis.responses.test_responses import events_of
from tests.gateway.scripted import MODEL, USAGE, ScriptedCluster
from tests.gateway.strict import strictly

ASK: dict[str, Any] = {"model": MODEL, "input": "hi"}
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
MESSAGE: dict[str, Any] = CHAT | {"max_tokens": 20}
LEFT_OUT = "x-millstream-tools-left-out"
FLAT: dict[str, Any] = {"type": "function", "name": "exec", "parameters": {"type": "object"}, "strict": False}
GRIND = FLAT | {"name": "grind", "description": "Grinds."}
NAMESPACE = {"type": "namespace", "name": "mcp__mill", "description": "A mill.", "tools": [GRIND]}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'},
}
HOSTED = [
    {"type": "web_search", "external_web_access": False},
    {"type": "web_search_preview_2025_03_11"},
    {"type": "image_generation"},
    {"type": "tool_search"},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "computer_use_preview", "display_width": 1, "display_height": 1, "environment": "linux"},
    {"type": "file_search", "vector_store_ids": ["v"]},
    {"type": "local_shell"},
    {"type": "mcp", "server_label": "s", "server_url": "https://example.org"},
]
FAMILIES = "web_search, image_generation, tool_search, code_interpreter, computer, file_search, local_shell, mcp"
SERVER_TOOLS = [
    {"type": "web_search_20250305", "name": "web_search"},
    {"type": "code_execution_20250825", "name": "code_execution"},
    {"type": "computer_20250124", "name": "computer", "display_width_px": 1, "display_height_px": 1},
    {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
    {"type": "bash_20250124", "name": "bash"},
    {"type": "mcp_toolset", "mcp_server_name": "s"},
]
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}


def calling(name: str, arguments: str, piece: int = 3) -> list[Chunk]:
    """A call whose arguments come in small pieces."""
    pieces = [arguments[at : at + piece] for at in range(0, len(arguments), piece)]
    return [
        Chunk(start=Start(prompt_tokens=7)),
        Chunk(ids=[1], tools=[ToolDelta(0, "call_1", name)]),
        *(Chunk(ids=[2], tools=[ToolDelta(0, arguments=each)]) for each in pieces),
        Chunk(finish="tool_calls", usage=USAGE),
    ]


def shown(cluster: ScriptedCluster) -> list[dict[str, Any]]:
    """The functions that the model saw last."""
    prompt = cluster.queue.requests[-1].input
    assert isinstance(prompt, ChatPrompt)
    return [tool["function"] for tool in prompt.tools]


@pytest.mark.parametrize("stream", [False, True])
async def test_hosted_tools_of_responses(http: httpx.AsyncClient, cluster: ScriptedCluster, stream: bool) -> None:
    answer = await http.post("/v1/responses", json=ASK | {"tools": [*HOSTED, FLAT], "stream": stream})
    assert answer.status_code == 200 and answer.headers[LEFT_OUT] == FAMILIES
    assert [function["name"] for function in shown(cluster)] == ["exec"]
    body = answer.json() if not stream else events_of(answer.text)[-1]["response"]
    assert body["tools"][:-1] == HOSTED and body["tools"][-1]["name"] == "exec"


async def test_an_offer_of_hosted_tools_alone_is_an_answer_without_tools(
    http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    for path, body in (
        ("/v1/responses", ASK | {"tools": HOSTED, "tool_choice": "auto"}),
        ("/v1/chat/completions", CHAT | {"tools": HOSTED, "tool_choice": "auto"}),
        ("/v1/chat/completions", CHAT | {"tools": HOSTED, "store": True}),
        ("/v1/messages", MESSAGE | {"tools": SERVER_TOOLS}),
    ):
        answer = await http.post(path, json=body)
        assert answer.status_code == 200 and LEFT_OUT in answer.headers, answer.text
        assert shown(cluster) == [] and cluster.queue.requests[-1].tool_use is None
    assert 'tools_left_out_total{family="image_generation"} 3.0' in (await http.get("/metrics")).text


async def test_anthropics_server_tools(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    servers = [{"type": "url", "url": "https://example.org", "name": "s"}]
    asked = MESSAGE | {"tools": [*SERVER_TOOLS, TOOL], "mcp_servers": servers}
    answer = await http.post("/v1/messages", json=asked)
    assert answer.headers[LEFT_OUT] == "web_search, code_execution, computer, text_editor, bash, mcp"
    assert [function["name"] for function in shown(cluster)] == ["weather"]
    plain = await http.post("/v1/messages", json=MESSAGE | {"tools": [TOOL]})
    assert LEFT_OUT not in plain.headers


async def test_what_is_demanded_must_be_there(http: httpx.AsyncClient) -> None:
    chosen = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("responses", ASK | {"tools": HOSTED, "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ("responses", ASK | {"tools": HOSTED, "tool_choice": "required"}, "tool_choice"),
        ("responses", ASK | {"tools": [*HOSTED, FLAT], "tool_choice": chosen}, "tool_choice.tools[0].type"),
        ("responses", ASK | {"tools": [{"type": "tool_of_tomorrow"}]}, "tools[0].type"),
        ("responses", ASK | {"tools": [NAMESPACE | {"tools": [NAMESPACE]}]}, "tools[0].tools[0].type"),
        ("chat/completions", CHAT | {"tools": HOSTED, "tool_choice": "required"}, "tool_choice"),
        ("chat/completions", CHAT | {"tools": HOSTED, "tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ("chat/completions", CHAT | {"tools": [{"type": "custom"}]}, "tools[0].custom"),
    ]
    for path, body, param in wrong:
        answer = await http.post(f"/v1/{path}", json=body)
        assert answer.status_code == 400 and answer.json()["error"]["param"].startswith(param), (body, answer.text)
    named = MESSAGE | {"tools": SERVER_TOOLS, "tool_choice": {"type": "tool", "name": "web_search"}}
    answer = await http.post("/v1/messages", json=named)
    assert answer.status_code == 400 and "tool_choice.name" in answer.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_namespace_is_told_as_functions_and_answered_beside_the_bare_name(
    http: httpx.AsyncClient, cluster: ScriptedCluster, stream: bool
) -> None:
    cluster.queue.script = lambda _: calling("mcp__mill__grind", '{"corn": 1}')
    answer = await http.post("/v1/responses", json=ASK | {"tools": [FLAT, NAMESPACE], "stream": stream})
    assert [function["name"] for function in shown(cluster)] == ["exec", "mcp__mill__grind"]
    assert shown(cluster)[1]["description"] == "A mill.\n\nGrinds."
    body = answer.json() if not stream else events_of(answer.text)[-1]["response"]
    [call] = strictly(kinds.Response, body).output
    assert call.type == "function_call"
    assert (call.namespace, call.name, call.arguments) == ("mcp__mill", "grind", '{"corn": 1}')
    assert body["tools"][1] == NAMESPACE
    history = [*body["output"], {"type": "function_call_output", "call_id": "call_1", "output": "flour"}]
    await http.post("/v1/responses", json=ASK | {"tools": [NAMESPACE], "input": history})
    prompt = cluster.queue.requests[-1].input
    assert isinstance(prompt, ChatPrompt)
    assert prompt.messages[0]["tool_calls"][0]["function"]["name"] == "mcp__mill__grind"


async def test_a_namespaces_function_is_chosen_by_either_name(
    http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    for choice in ({"name": "grind"}, {"name": "mcp__mill__grind"}, {"name": "grind", "namespace": "mcp__mill"}):
        asked = ASK | {"tools": [FLAT, NAMESPACE], "tool_choice": {"type": "function"} | choice}
        assert (await http.post("/v1/responses", json=asked)).status_code == 200
        use = cluster.queue.requests[-1].tool_use
        assert use is not None and (use.choice, use.name) == ("named", "mcp__mill__grind")


async def test_names_too_long_to_be_joined_stay_apart(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    long = NAMESPACE | {"name": "n" * 100, "tools": [GRIND | {"name": "g" * 60 + str(each)} for each in range(3)]}
    assert (await http.post("/v1/responses", json=ASK | {"tools": [long]})).status_code == 200
    names = {function["name"] for function in shown(cluster)}
    assert len(names) == 3 and all(len(name) <= 128 for name in names)


TEXT = '*** Begin "Patch"\n\\ é \U0001f600\n'


@pytest.mark.parametrize("stream", [False, True])
async def test_a_custom_tool_takes_text(http: httpx.AsyncClient, cluster: ScriptedCluster, stream: bool) -> None:
    cluster.queue.script = lambda _: calling("apply_patch", json.dumps({"input": TEXT}))
    answer = await http.post("/v1/responses", json=ASK | {"tools": [PATCH], "stream": stream})
    [function] = shown(cluster)
    assert function["name"] == "apply_patch"
    assert 'start: "x"' in function["parameters"]["properties"]["input"]["description"]
    body = {} if stream else answer.json()
    if stream:
        events = events_of(answer.text)
        body = events[-1]["response"]
        deltas = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
        assert "".join(deltas) == TEXT and len(deltas) > 3
    [call] = strictly(kinds.Response, body).output
    assert call.type == "custom_tool_call" and (call.name, call.input) == ("apply_patch", TEXT)
    assert body["tools"] == [PATCH]
    history = [*body["output"], {"type": "custom_tool_call_output", "call_id": "call_1", "output": "Done."}]
    await http.post("/v1/responses", json=ASK | {"tools": [PATCH], "input": history})
    prompt = cluster.queue.requests[-1].input
    assert isinstance(prompt, ChatPrompt)
    [asked, answered] = prompt.messages
    assert json.loads(asked["tool_calls"][0]["function"]["arguments"]) == {"input": TEXT}
    assert (answered["role"], answered["content"]) == ("tool", "Done.")


async def test_a_custom_tool_of_a_chat(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.script = lambda _: calling("apply_patch", json.dumps({"input": TEXT}))
    custom = {"type": "custom", "custom": {"name": "apply_patch", "format": {"type": "text"}}}
    asked = CHAT | {"tools": [custom], "tool_choice": {"type": "custom", "custom": {"name": "apply_patch"}}}
    [call] = (await http.post("/v1/chat/completions", json=asked)).json()["choices"][0]["message"]["tool_calls"]
    assert call == {"id": "call_1", "type": "custom", "custom": {"name": "apply_patch", "input": TEXT}}
    text = (await http.post("/v1/chat/completions", json=asked | {"stream": True})).text
    deltas = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    calls = [each for one in deltas for each in one["choices"][0]["delta"].get("tool_calls", [])]
    assert (calls[0]["id"], calls[0]["type"], calls[0]["custom"]["name"]) == ("call_1", "custom", "apply_patch")
    assert "".join(each["custom"]["input"] for each in calls) == TEXT
    history = [*CHAT["messages"], {"role": "assistant", "tool_calls": [call]}]
    history.append({"role": "tool", "tool_call_id": "call_1", "content": "Done."})
    assert (await http.post("/v1/chat/completions", json=asked | {"messages": history})).status_code == 200
    prompt = cluster.queue.requests[-1].input
    assert isinstance(prompt, ChatPrompt)
    assert json.loads(prompt.messages[1]["tool_calls"][0]["function"]["arguments"]) == {"input": TEXT}


async def test_a_streamed_custom_call_is_gone_on_with_at_any_event(
    http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    cluster.queue.script = lambda _: calling("apply_patch", json.dumps({"input": TEXT}), piece=5)
    custom = {"type": "custom", "custom": {"name": "apply_patch"}}
    asked = CHAT | {"tools": [custom], "stream": True}
    events = (await http.post("/v1/chat/completions", json=asked)).text.split("\n\n")
    marked = [index for index, event in enumerate(events) if event.startswith("id: ")]
    assert len(marked) > 5
    for index in marked:
        place = events[index].split("\n")[0].removeprefix("id: ")
        rest = await http.post("/v1/chat/completions", json=asked, headers={"Last-Event-ID": place})
        assert rest.text == "\n\n".join(events[index + 1 :])


async def test_one_delta_has_one_entry_for_each_call(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    twice = [ToolDelta(0, "call_1", "f"), ToolDelta(0, arguments='{"'), ToolDelta(1, "call_2", "g", "{}")]
    cluster.queue.script = lambda _: [
        Chunk(start=Start(prompt_tokens=7)),
        Chunk(ids=[1], tools=twice),
        Chunk(finish="tool_calls", usage=USAGE),
    ]
    text = (await http.post("/v1/chat/completions", json=CHAT | {"stream": True})).text
    deltas = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    calls = [one["choices"][0]["delta"]["tool_calls"] for one in deltas if "tool_calls" in one["choices"][0]["delta"]]
    assert [[call["index"] for call in each] for each in calls] == [[0, 1]]
    assert calls[0][0]["function"] == {"name": "f", "arguments": '{"'}


async def test_thoughts_words_and_calls_each_have_a_delta_of_their_own(
    http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    """Open WebUI reads the calls of a delta before its text, and takes the text for what follows them."""
    call = ToolDelta(0, "call_1", "f", "{}")
    cluster.queue.script = lambda _: [
        Chunk(start=Start(prompt_tokens=7)),
        Chunk(ids=[1, 2, 3], reasoning="Hm.", text="I look.", tools=[call]),
        Chunk(finish="tool_calls", usage=USAGE),
    ]
    asked = CHAT | {"stream": True, "return_token_ids": True}
    text = (await http.post("/v1/chat/completions", json=asked)).text
    choices = [json.loads(line[6:])["choices"][0] for line in text.splitlines() if line.startswith("data: {")]
    told = [set(choice["delta"]) for choice in choices]
    assert told[1:] == [{"reasoning_content"}, {"content"}, {"tool_calls"}, set()]
    assert [choice["token_ids"] for choice in choices][1:] == [[1, 2, 3], [], [], []]
    assert [choice["finish_reason"] for choice in choices] == [None] * 4 + ["tool_calls"]
    events = text.split("\n\n")
    assert [event.startswith("id: ") for event in events[1:5]] == [False, False, True, True]
    place = events[0].split("\n")[0].removeprefix("id: ")
    rest = await http.post("/v1/chat/completions", json=asked, headers={"Last-Event-ID": place})
    assert rest.text == "\n\n".join(events[1:])
