"""A request reaches the upstream whole, and everything its answer says reaches the client."""

import json
from dataclasses import replace
from typing import Any

import pytest

from millstream.common.chunk import Chunk, ToolDelta
from millstream.common.errors import BadGrammar, BadRequest
from millstream.common.job import ChatPrompt, Guide, JobRequest, Sampling, TextPrompt, TokensPrompt, ToolUse
from millstream.worker.engines.base import SequenceKey
from millstream.worker.engines.openai.abilities import Abilities
from millstream.worker.engines.openai.bodies import body_of
from millstream.worker.engines.openai.continuing import AfterText, AskedAgain
from millstream.worker.engines.openai.reading import AnswerReader, EventReader
from tests.worker.engines.openai.conftest import USER

ABLE = Abilities("vllm", "m", chat=True, completions=True, usage=True, seed=True, goes_on=True)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def asked(request: JobRequest, abilities: Abilities = ABLE) -> dict[str, Any]:
    return body_of(request, abilities)[1]


def test_a_plain_request_says_no_more_than_it_must() -> None:
    route, body = body_of(JobRequest(ChatPrompt(USER), Sampling(seed=3)), ABLE)
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    assert route == "/chat/completions"
    assert body == {"model": "m", "messages": USER, "temperature": 1.0, "seed": 3, **usage}


def test_what_a_client_leaves_to_the_model_is_left_to_the_upstream() -> None:
    assert "temperature" not in asked(JobRequest(ChatPrompt(USER), Sampling(unset=["temperature"])))


def test_every_parameter_is_passed_on() -> None:
    sampling = Sampling(
        max_tokens=5, temperature=0.5, top_p=0.9, top_k=4, min_p=0.1, repetition_penalty=1.1, presence_penalty=0.2,
        frequency_penalty=0.3, logit_bias={"7": 1.0}, stop=["\n"], stop_token_ids=[9], include_stop=True,
        ignore_eos=True, min_tokens=2, logprobs=3,
    )  # fmt: skip
    body = asked(JobRequest(ChatPrompt(USER, template_kwargs={"reasoning_effort": "low", "x": 1}), sampling))
    told = {"max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "repetition_penalty": 1.1}
    told |= {"presence_penalty": 0.2, "frequency_penalty": 0.3, "logit_bias": {"7": 1.0}, "stop": ["\n"]}
    told |= {"stop_token_ids": [9], "include_stop_str_in_output": True, "ignore_eos": True, "min_tokens": 2}
    told |= {"logprobs": True, "top_logprobs": 3, "reasoning_effort": "low", "chat_template_kwargs": {"x": 1}}
    assert told.items() <= body.items()


@pytest.mark.parametrize("server", ["llama.cpp", "ollama", "sglang", "OpenAI server", "vllm", "millstream"])
@pytest.mark.parametrize(
    ("param", "sampling", "known"),
    [
        ("min_tokens", Sampling(min_tokens=3), ("vllm", "millstream", "sglang", "OpenAI server")),
        ("stop_token_ids", Sampling(stop_token_ids=[9]), ("vllm", "millstream", "sglang", "OpenAI server")),
        (
            "include_stop_str_in_output",
            Sampling(stop=["x"], include_stop=True),
            ("vllm", "millstream", "sglang", "OpenAI server"),
        ),
        ("allowed_token_ids", Sampling(allowed_token_ids=[1]), ("vllm", "millstream")),
        ("bad_words", Sampling(bad_words=["x"]), ("vllm", "millstream")),
    ],
)
def test_what_a_server_would_pass_over_in_silence_is_refused_by_name(
    server: str, param: str, sampling: Sampling, known: tuple[str, ...]
) -> None:
    request = JobRequest(ChatPrompt(USER), sampling)
    if server in known:
        assert param in asked(request, replace(ABLE, server=server))
        return
    with pytest.raises(BadRequest, match=f"upstream \\({server}\\) has no `{param}`: leave it out") as refused:
        asked(request, replace(ABLE, server=server))
    assert refused.value.param == param


def test_log_probabilities_of_the_prompt_come_from_no_upstream_as_text() -> None:
    with pytest.raises(BadRequest) as refused:
        asked(JobRequest(ChatPrompt(USER), Sampling(), prompt_logprobs=1))
    assert refused.value.param == "prompt_logprobs"


@pytest.mark.parametrize(
    ("use", "told"),
    [
        (ToolUse("auto"), {}),
        (ToolUse("required", parallel=False), {"tool_choice": "required", "parallel_tool_calls": False}),
        (ToolUse("named", "f"), {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
    ],
)
def test_tools_are_passed_on(use: ToolUse, told: dict[str, Any]) -> None:
    body = asked(JobRequest(ChatPrompt(USER, [TOOL]), tool_use=use))
    assert body["tools"] == [TOOL]
    assert {name: body[name] for name in ("tool_choice", "parallel_tool_calls") if name in body} == told


def test_formats_are_passed_on_as_the_server_knows_them() -> None:
    schema = asked(JobRequest(ChatPrompt(USER), guide=Guide("json_schema", '{"type": "object"}')))
    assert schema["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert asked(JobRequest(ChatPrompt(USER), guide=Guide("json_object")))["response_format"] == {"type": "json_object"}
    choice = JobRequest(ChatPrompt(USER), guide=Guide("choice", '["a"]', "guided_choice"))
    assert asked(choice)["structured_outputs"] == {"choice": ["a"]}
    assert asked(choice, Abilities("millstream", "m", chat=True))["guided_choice"] == ["a"]
    with pytest.raises(BadGrammar) as refused:
        asked(choice, Abilities("llama.cpp", "m", chat=True))
    assert refused.value.param == "guided_choice"


@pytest.mark.parametrize("prompt", [TextPrompt("a"), TokensPrompt([1, 2])])
def test_completions_are_passed_on(prompt: TextPrompt | TokensPrompt) -> None:
    route, body = body_of(JobRequest(prompt, Sampling(logprobs=2), echo=True), ABLE)
    given = prompt.text if isinstance(prompt, TextPrompt) else prompt.ids
    assert (route, body["prompt"], body["echo"], body["logprobs"]) == ("/completions", given, True, 2)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (JobRequest(ChatPrompt(USER)), "messages"),
        (JobRequest(TextPrompt("a")), "prompt"),
    ],
)
def test_what_the_upstream_cannot_do_is_refused_by_name(request_: JobRequest, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        asked(request_, Abilities("vllm", "m"))
    assert refused.value.param == param


def test_images_are_passed_on_to_an_upstream_that_reads_them() -> None:
    shown = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}]
    request = JobRequest(ChatPrompt(shown))
    assert asked(request, Abilities("vllm", "m", chat=True, images=True))["messages"] == shown
    with pytest.raises(BadRequest, match="no images"):
        asked(request)


def test_a_message_is_gone_on_with_as_the_server_knows_it() -> None:
    begun = JobRequest(ChatPrompt([*USER, {"role": "assistant", "content": "A"}], continue_final_message=True))
    assert asked(begun)["continue_final_message"] is True
    assert "continue_final_message" not in asked(begun, Abilities("llama.cpp", "m", chat=True, goes_on=True))
    with pytest.raises(BadRequest):
        asked(begun, Abilities("vllm", "m", chat=True))


# ------------------------------------------------------------------------------------------------------------- reading


def read(*replies: dict[str, Any]) -> list[Chunk]:
    reader = AnswerReader(SequenceKey("job#1"))
    chunks = [chunk for reply in replies if (chunk := reader.read(json.dumps(reply).encode())) is not None]
    return [*chunks, reader.last()] if reader.complete else chunks


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def test_thoughts_text_and_the_end_are_told() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}
    usage["completion_tokens_details"] = {"reasoning_tokens": 3}
    end = {"choices": [{"delta": {}, "finish_reason": "stop", "stop_reason": "\n"}]}
    chunks = read(
        delta(role="assistant", content=""), delta(reasoning_content="hm"), delta(reasoning="m"), delta(content="Yes"),
        end, {"choices": [], "usage": usage},
    )  # fmt: skip
    assert [(chunk.reasoning, chunk.text) for chunk in chunks[:-1]] == [("hm", ""), ("m", ""), ("", "Yes")]
    last = chunks[-1]
    assert (last.finish, last.stopped_by) == ("stop", "\n")
    assert last.usage is not None
    assert (last.usage.prompt, last.usage.completion, last.usage.cached, last.usage.reasoning) == (5, 7, 4, 3)


def test_an_answer_without_usage_is_counted_by_its_deltas() -> None:
    usage = read(delta(content="a"), delta(content="b"), delta("length"))[-1].usage
    assert usage is not None and usage.completion == 2


def call(index: int | None, id: str | None = None, name: str | None = None, arguments: str | None = None) -> Any:
    return {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_tool_calls_grow_and_end_the_answer() -> None:
    chunks = read(
        delta(tool_calls=[call(0, "a", "f", "")]), delta(tool_calls=[call(0, None, None, '{"x"')]),
        delta(tool_calls=[call(0, "a", None, ": 1}")]), delta(tool_calls=[call(1, "b", "g", "{}")]), delta("stop"),
    )  # fmt: skip
    tools = [tool for chunk in chunks for tool in chunk.tools]
    assert tools == [
        ToolDelta(0, "a", "f", ""), ToolDelta(0, arguments='{"x"'), ToolDelta(0, arguments=": 1}"),
        ToolDelta(1, "b", "g", "{}"),
    ]  # fmt: skip
    assert chunks[-1].finish == "tool_calls"


def test_calls_without_index_or_id_are_told_apart() -> None:
    """Ollama gives every call the index 0 and an id of its own; others give no id at all."""
    chunks = read(delta(tool_calls=[call(0, "a", "f", "{}"), call(0, "b", "g", "{}")]), delta("tool_calls"))
    assert [(tool.index, tool.id) for tool in chunks[0].tools] == [(0, "a"), (1, "b")]
    [unnamed] = read(delta(tool_calls=[call(None, None, "f", "{}")]))[0].tools
    assert unnamed.id.startswith("call_")


def test_logprobs_of_both_shapes_are_told() -> None:
    scored = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2.0}]}
    chat = {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [scored]}}]}
    older = {"tokens": ["a"], "token_logprobs": [-0.1], "top_logprobs": [{"b": -2.0}]}
    for reply in (chat, {"choices": [{"text": "a", "logprobs": older}]}):
        [logprob] = read(reply)[0].logprobs
        assert (logprob.token, logprob.logprob, logprob.top[0].token) == ("a", -0.1, "b")


def test_events_are_found_however_the_bytes_are_cut() -> None:
    stream = b': hello\r\n\r\ndata: {"a":\r\ndata: 1}\r\n\r\nid: 3\ndata: two\n\ndata: [DONE]'
    for size in (1, 2, 3, 7, 1000):
        reader = EventReader()
        found = [event for at in range(0, len(stream), size) for event in reader.feed(stream[at : at + size])]
        assert [*found, *reader.end()] == [b'{"a":\n1}', b"two", b"[DONE]"]


# ---------------------------------------------------------------------------------------------------------- continuing


@pytest.mark.parametrize(
    ("blank", "new", "expected"),
    [
        ("", ["a"], ["a"]),
        (" ", [" a"], ["a"]),
        (" ", ["a"], ["a"]),
        ("\n\n", ["\n", "\n\n", "a"], ["\n", "a"]),
        ("\n ", ["\n", "a"], ["a"]),
    ],
)
def test_white_space_at_the_seam_comes_once(blank: str, new: list[str], expected: list[str]) -> None:
    seam = AfterText(blank, 0)
    assert [cut.text for text in new if (cut := seam.cut(Chunk(text=text, count=1))) is not None] == expected


def test_tool_calls_are_compared_without_their_ids() -> None:
    had = [Chunk(tools=[ToolDelta(0, "a", "f", '{"x')]), Chunk(reasoning="hm")]
    seam = AskedAgain.after(had)
    assert seam.cut(Chunk(reasoning="hm")) is None
    cut = seam.cut(Chunk(tools=[ToolDelta(0, "other", "f", '{"x": 1}')], count=1))
    assert cut is not None and cut.tools == [ToolDelta(0, arguments='": 1}')]
