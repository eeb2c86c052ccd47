"""No input makes the gateway fail: valid bodies with random damage are answered, or refused with a 4xx."""

import copy
import json
import random
from typing import Any

import httpx

from tests.gateway.scripted import MODEL, ScriptedCluster

CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "r"},
    ],
    "stop": ["x"],
    "temperature": 0.5,
    "logit_bias": {"5": 1},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "metadata": {"a": "b"},
    "n": 2,
    "seed": 1,
    "stream_options": None,
    "chat_template_kwargs": {"a": 1},
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": MODEL, "prompt": ["a", "b"], "n": 1, "logprobs": 1, "echo": True, "best_of": 2},
    "/v1/responses": {
        "model": MODEL,
        "input": [
            {"role": "user", "content": "x"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "o"},
            {"type": "reasoning", "encrypted_content": "aGk=", "summary": []},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {}}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        "reasoning": {"effort": "low"},
        "include": ["message.output_text.logprobs"],
        "metadata": {"a": "b"},
        "previous_response_id": None,
        "truncation": "auto",
    },
    "/v1/messages": {
        "model": MODEL,
        "max_tokens": 5,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "thinking": {"type": "enabled", "budget_tokens": 5},
        "output_config": {"format": {"type": "json_schema", "schema": {}}},
    },
    "/v1/embeddings": {"model": MODEL, "input": ["a", "b"], "encoding_format": "base64", "dimensions": 4},
    "/v1/rerank": {"model": MODEL, "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1},
    "/v1/score": {"model": MODEL, "text_1": ["a"], "text_2": ["b"]},
    "/tokenize": {"model": MODEL, "messages": [{"role": "user", "content": "x"}]},
    "/detokenize": {"model": MODEL, "tokens": [1, 2]},
}
JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**40,
    "",
    "x",
    "\ud800",
    "\x00",
    "a.b[0]",
    [],
    [[]],
    [None],
    {},
    {"type": "x"},
    {"type": None},
    {"": ""},
    ["x"] * 40,
    [1, "a"],
    [[1], "a"],
]


def damaged(body: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """The body with one to three places replaced, removed or repeated."""
    changed: Any = copy.deepcopy(body)
    for _ in range(dice.randint(1, 3)):
        here: Any = changed
        while True:
            places = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not places:
                break
            place = dice.choice(places)
            if isinstance(here[place], dict | list) and here[place] and dice.random() < 0.7:
                here = here[place]
                continue
            if dice.random() < 0.15:
                del here[place]
            else:
                here[place] = copy.deepcopy(dice.choice(JUNK))
            break
    return changed


async def test_damaged_bodies(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    dice = random.Random(20261122)
    for path, body in BODIES.items():
        for _ in range(120):
            sent = json.dumps(damaged(body, dice))
            response = await http.post(path, content=sent, headers={"content-type": "application/json"})
            assert response.status_code < 500, f"{path} {sent}\n{response.text}"
            if response.status_code >= 400:
                assert response.json()["error"]["message"], sent


async def test_strange_paths_and_parameters(http: httpx.AsyncClient) -> None:
    paths = ("/v1/models/{}", "/v1/responses/{}", "/v1/chat/completions/{}", "/v1/responses/{}/input_items")
    for path in paths:
        for value in ("x", "%00", "%ff", "a%2Fb", "resp_" + "0" * 32, "%F0%9F%8C%8A", "..", "{}", "x" * 4000):
            response = await http.get(path.format(value))
            assert response.status_code < 500, (path, value)
    for query in ("limit=0", "limit=x", "limit=1000", "order=up", "after=%00", "metadata[=x", "limit=-1&order=desc"):
        assert (await http.get(f"/v1/chat/completions?{query}")).status_code < 500, query
        assert (await http.get(f"/v1/responses/x?stream=maybe&{query}")).status_code < 500, query
    for id in ("%00", "chatcmpl-" + "f" * 32, "x" * 5000):
        assert (await http.post(f"/v1/requests/{id}/cancel")).status_code in (400, 404)
