"""Errors in OpenAI's shape: status, type, code, param and words."""

import gzip
import itertools
import json
from typing import Any

import httpx
import openai
import pytest
from structlog.testing import capture_logs

from millstream.common.errors import Overloaded, TooLargeToWait, Unavailable
from tests.gateway.conftest import gateway
from tests.gateway.scripted import MODEL, ScriptedCluster, failed, said

HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f"}}]
ASK: dict[str, Any] = {"model": MODEL, "messages": HI}
CHAT = "/v1/chat/completions"

ALLOWED = "tool_choice.allowed_tools.tools"


def allowing(*tools: Any) -> dict[str, Any]:
    """A choice among some of the tools."""
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": tools}}
    return {"tools": TOOLS, "tool_choice": choice}


# what is wrong with the body, the parameter named, OpenAI's code, a piece of the message
WRONG: list[tuple[dict[str, Any], str | None, str | None, str]] = [
    ({"messages": None}, "messages", "invalid_type", "expected an array, but got null"),
    ({"messages": []}, "messages", "empty_array", "Expected at least 1"),
    ({"messages": "hi"}, "messages", "invalid_type", "expected an array, but got a string"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter", "Missing required parameter"),
    ({"messages": [*HI, {"role": "wizard"}]}, "messages[1].role", "invalid_value", "Supported values are: 'system'"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter", ""),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type", "a string or an array"),
    (
        {"messages": [*HI, *HI, {"role": "user", "content": [{"type": "text", "text": 3}]}]},
        "messages[2].content[0].text",
        "invalid_type",
        "expected a string, but got an integer",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0].type",
        "invalid_value",
        "image_url",
    ),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "missing_required_parameter", ""),
    ({"temperature": "hot"}, "temperature", "invalid_type", "expected a decimal, but got a string"),
    ({"temperature": 2.5}, "temperature", "decimal_above_max_value", "Expected a value <= 2"),
    ({"temperature": -1}, "temperature", "integer_below_min_value", "Expected a value >= 0"),
    ({"top_p": 1.5}, "top_p", "decimal_above_max_value", "1.5"),
    ({"n": 0}, "n", "integer_below_min_value", ""),
    ({"n": True}, "n", "invalid_type", "got a boolean"),
    ({"max_tokens": 0}, "max_tokens", None, "minimum"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", None, "both"),
    ({"max_tokens": 10**30}, "max_tokens", "integer_above_max_value", ""),
    ({"stop": 7}, "stop", "invalid_type", "a string or an array"),
    ({"stop": ["a", 7]}, "stop[1]", "invalid_type", ""),
    ({"seed": 2**70}, "seed", "integer_above_max_value", ""),
    ({"logit_bias": {"5": 101}}, "logit_bias.5", "integer_above_max_value", ""),
    ({"top_logprobs": 2}, "top_logprobs", None, "logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options", None, "stream"),
    ({"audio": {"voice": "x"}}, "audio", "unsupported_parameter", ""),
    ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter", ""),
    ({"web_search_options": {}}, "web_search_options", "unsupported_parameter", ""),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value", "json_schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter", ""),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter", ""),
    ({"tools": [{"type": "tool_of_tomorrow"}]}, "tools[0].type", "unsupported_parameter", "custom"),
    ({"tool_choice": "required"}, "tool_choice", None, "tools"),
    (allowing({"type": "function", "function": "f"}), f"{ALLOWED}[0].function", "invalid_type", "expected an object"),
    (allowing({"type": "function", "name": "f"}), f"{ALLOWED}[0].function", "missing_required_parameter", ""),
    (allowing(TOOLS[0], {"type": "function", "function": {"name": "g"}}), f"{ALLOWED}[1].function.name", None, "'g'"),
    (allowing(), ALLOWED, "empty_array", ""),
    ({"function_call": {"name": "f"}}, "function_call", None, "functions"),
    ({"functions": [TOOLS[0]["function"]], "tools": TOOLS}, "functions", None, "Only one"),
    ({"stop": ["x"] * 65}, "stop", "array_above_max_length", "at most 64 entries, but got 65"),
    (
        {"stop": ["x" * 4096, "y" * 4097]},
        "stop",
        "string_above_max_length",
        "8193 characters in all. Expected at most 8192",
    ),
    ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "array_above_max_length", "16 entries, but got 17"),
    ({"reasoning_effort": "heroic"}, "reasoning_effort", "invalid_value", ""),
    ({"service_tier": "gold"}, "service_tier", "invalid_value", ""),
    ({"metadata": {"k": "v" * 600}}, "metadata.k", "string_above_max_length", ""),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, None, None, "Unicode"),
]


async def test_wrong_fields(http: httpx.AsyncClient) -> None:
    for change, param, code, words in WRONG:
        body = json.dumps(ASK | change).encode()
        response = await http.post(CHAT, content=body, headers={"content-type": "application/json"})
        error = response.json()["error"]
        assert response.status_code == 400 and error["type"] == "invalid_request_error", (change, error)
        assert set(error) == {"message", "type", "param", "code"}
        assert error["param"] == param and words in error["message"], (change, error)
        assert code is None or error["code"] == code, (change, error)


async def test_wrong_parameters_of_a_query(http: httpx.AsyncClient) -> None:
    for query, code, words in (
        ("limit=0", "integer_below_min_value", "Expected a value >= 1, but got '0'"),
        ("limit=x", "invalid_type", "expected an integer, but got a string"),
        ("order=up", "invalid_value", "'asc' or 'desc'"),
    ):
        error = (await http.get(f"{CHAT}?{query}")).json()["error"]
        assert (error["param"], error["code"]) == (query.partition("=")[0], code) and words in error["message"]


async def test_no_json_object(http: httpx.AsyncClient) -> None:
    for body in (b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b"[" * 100_000):
        response = await http.post(CHAT, content=body)
        assert response.status_code == 400, body[:9]
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_unknown_fields_are_ignored(http: httpx.AsyncClient) -> None:
    assert (await http.post(CHAT, json=ASK | {"brand_new": {"x": 1}})).status_code == 200


async def test_a_long_stop_string_is_one_string(http: httpx.AsyncClient) -> None:
    assert (await http.post(CHAT, json=ASK | {"stop": "x" * 100})).status_code == 200


async def test_form_content_type_is_read_as_json(http: httpx.AsyncClient) -> None:
    for kind in ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=utf-8"):
        assert (await http.post(CHAT, content=json.dumps(ASK), headers={"content-type": kind})).status_code == 200


async def test_bodies_of_another_kind_are_refused_by_the_header_that_says_so(http: httpx.AsyncClient) -> None:
    for headers, code, words in (
        ({"content-type": "text/plain"}, "unsupported_content_type", "'text/plain'"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, "unsupported_content_encoding", "'gzip'"),
    ):
        body = gzip.compress(json.dumps(ASK).encode()) if "content-encoding" in headers else json.dumps(ASK).encode()
        response = await http.post(CHAT, content=body, headers=headers)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, code) and words in error["message"]


async def test_half_a_surrogate_pair_is_no_text_wherever_it_stands(http: httpx.AsyncClient) -> None:
    body = b'{"model": "%b", "input": "x", "previous_response_id": "\\ud800"}' % MODEL.encode()
    response = await http.post("/v1/responses", content=body)
    assert response.status_code == 400 and "Unicode" in response.json()["error"]["message"]


async def test_a_crash_is_answered_like_any_other_error(cluster: ScriptedCluster) -> None:
    def crash(request: Any) -> Any:
        raise ZeroDivisionError

    cluster.queue.script = crash
    page = {"origin": "https://app.example"}
    async with gateway(cluster, cors_origins=[page["origin"]]) as url, httpx.AsyncClient(base_url=url) as http:
        for path, body in ((CHAT, ASK), ("/v1/messages", ASK | {"max_tokens": 5})):
            response = await http.post(path, json=body, headers=page)
            assert response.status_code == 500 and "Sorry" in response.json()["error"]["message"]
            assert response.headers["x-request-id"].startswith("req_")  # what the log is searched for
            assert response.headers["access-control-allow-origin"] == page["origin"]
        assert response.json()["type"] == "error"  # in Anthropic's shape


async def test_a_crash_of_any_route_is_answered_so(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    """Also where the framework finds the route and has layers of its own around it."""
    cluster.directory.fault = ZeroDivisionError()
    for path in ("/v1/models", f"/v1/models/{MODEL}", "/ready", "/metrics"):
        with capture_logs() as lines:
            response = await http.get(path)
        assert [line["event"] for line in lines if line["log_level"] == "error"] == ["request_crashed"], path
        assert response.status_code == 500 and response.json()["error"]["code"] == "internal_error", path
        assert response.headers["x-request-id"].startswith("req_")


async def test_unknown_model_names_those_there_are(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hi"}])
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    assert MODEL in str(caught.value)


async def test_unknown_paths_and_methods(http: httpx.AsyncClient) -> None:
    missing = await http.post("/v1/nothing")
    assert (missing.status_code, missing.json()["error"]["message"]) == (404, "Invalid URL (POST /v1/nothing)")
    wrong = await http.put(CHAT)
    assert wrong.status_code == 405 and wrong.json()["error"]["code"] == "method_not_allowed"


async def test_bodies_above_the_limit(cluster: ScriptedCluster) -> None:
    async with gateway(cluster, max_body_bytes=2000) as url, httpx.AsyncClient(base_url=url) as http:
        large = json.dumps(ASK | {"user": "x" * 3000}).encode()
        announced = await http.post(CHAT, content=large)

        async def pieces() -> Any:
            for start in range(0, len(large), 500):
                yield large[start : start + 500]

        unannounced = await http.post(CHAT, content=pieces())
        head = await http.post(CHAT, json=ASK, headers={"x-long": "y" * 70_000})
    assert [announced.status_code, unannounced.status_code] == [413, 413]
    assert announced.json()["error"]["code"] == unannounced.json()["error"]["code"] == "request_too_large"
    assert head.status_code == 431


async def test_overload_says_when_to_come_back(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.refusal = Overloaded("300 jobs wait for this model.", retry_after=7.2)
    response = await http.post(CHAT, json=ASK)
    assert (response.status_code, response.headers["retry-after"]) == (429, "8")
    assert response.headers["retry-after-ms"] == "7200"
    assert response.json()["error"]["code"] == "rate_limit_exceeded"


async def test_what_can_never_wait_is_not_to_come_back(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.refusal = TooLargeToWait("It has 12 sequences, and at most 10 may wait.")
    response = await http.post(CHAT, json=ASK)
    assert response.status_code == 400 and "retry-after" not in response.headers
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "too_large_to_wait")


async def test_no_redis(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    cluster.queue.refusal = Unavailable("Redis is away.")
    response = await http.post(CHAT, json=ASK)
    assert response.status_code == 503 and int(response.headers["retry-after"]) >= 1


# a job's failure code, the status, the error's type
EARLY = [
    ("context_length_exceeded", 400, "invalid_request_error"),
    ("invalid_grammar", 400, "invalid_request_error"),
    ("deadline_exceeded", 504, "timeout"),
    ("engine_error", 500, "server_error"),
    ("worker_lost", 500, "server_error"),
    ("service_unavailable", 503, "service_unavailable"),
]


async def test_early_failures_are_http_errors(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    for (code, status, kind), stream in itertools.product(EARLY, (False, True)):
        cluster.queue.script = lambda _, code=code: [failed(code, "too long by 3", "messages")]
        response = await http.post(CHAT, json=ASK | {"stream": stream})
        assert response.status_code == status
        assert response.json() == {
            "error": {"message": "too long by 3", "type": kind, "param": "messages", "code": code},
        }


async def test_failure_in_mid_stream(
    client: openai.AsyncOpenAI, http: httpx.AsyncClient, cluster: ScriptedCluster
) -> None:
    cluster.queue.script = lambda _: [*said("Hel")[:-1], failed("worker_lost", "the worker died")]
    response = await http.post(CHAT, json=ASK | {"stream": True})
    events = response.text.removesuffix("\n\n").split("\n\n")
    assert response.status_code == 200 and "[DONE]" not in response.text
    assert json.loads(events[-1].split("\n")[1].removeprefix("data: ")) == {
        "error": {"message": "the worker died", "type": "server_error", "param": None, "code": "worker_lost"}
    }
    with pytest.raises(openai.APIError, match="the worker died"):
        async for _ in await client.chat.completions.create(**ASK, stream=True):
            pass
    whole = await http.post(CHAT, json=ASK)
    assert whole.status_code == 500 and whole.json()["error"]["code"] == "worker_lost"


async def test_failure_of_one_choice_ends_the_others(http: httpx.AsyncClient, cluster: ScriptedCluster) -> None:
    def script(request: Any) -> Any:
        bad = len(cluster.queue.jobs) == 1
        return [said()[0], failed("engine_error")] if bad else said("x")

    cluster.queue.script = script
    response = await http.post(CHAT, json=ASK | {"n": 3})
    assert response.status_code == 500 and len(cluster.queue.cancelled) == 3
