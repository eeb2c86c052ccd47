"""The faults of a request are found before its first chunk, so that they can be an HTTP error."""

from dataclasses import replace

import pytest

from millstream.common.errors import BadGrammar, BadRequest, ContextLengthExceeded
from millstream.common.job import ChatPrompt, Guide, JobRequest, Sampling, TextPrompt, TokensPrompt, ToolUse
from millstream.worker.engines.base import SequenceKey, SequenceSpec
from millstream.worker.engines.simulated.engine import SimulatedEngine, SimulatedSettings
from millstream.worker.jobs.prepare import BRIEF, begin_sequence, brief

KEY = SequenceKey("job#1")
USER = [{"role": "user", "content": "hi"}]


@pytest.fixture
def engine() -> SimulatedEngine:
    return SimulatedEngine(SimulatedSettings(context_length=100))


def test_a_grammar_that_cannot_be_compiled_is_refused_at_the_beginning(engine: SimulatedEngine) -> None:
    request = JobRequest(input=ChatPrompt(messages=USER), guide=Guide("regex", "("))
    with pytest.raises(BadGrammar):
        begin_sequence(engine, engine.load(), request, KEY, [])


def test_a_grammar_made_of_the_tools_is_the_tools_fault(engine: SimulatedEngine) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "wrong"}}}]
    request = JobRequest(input=ChatPrompt(messages=USER, tools=tools), tool_use=ToolUse("required"))
    engine = SimulatedEngine()  # room for a prompt that tells of tools
    with pytest.raises(BadGrammar) as caught:
        begin_sequence(engine, engine.load(), request, KEY, [])
    assert caught.value.param == "tools"


def test_a_prompt_longer_than_the_context_names_both_numbers(engine: SimulatedEngine) -> None:
    request = JobRequest(input=TextPrompt("x" * 90), sampling=Sampling(max_tokens=20))
    with pytest.raises(
        ContextLengthExceeded, match=r"100 tokens.*110 tokens \(90 in the prompt, 20 in the completion\)"
    ):
        begin_sequence(engine, engine.load(), request, KEY, [])


def test_images_are_refused_by_an_engine_of_tokens(engine: SimulatedEngine) -> None:
    """The gateway lets them through if any worker of the model sees."""
    request = JobRequest(ChatPrompt([{"role": "user", "content": [{"type": "text", "text": "hi"}]}]))
    with pytest.raises(BadRequest, match="no images"):
        begin_sequence(engine, engine.load(), request, KEY, [])


def test_without_max_tokens_the_answer_gets_the_room_that_is_left(engine: SimulatedEngine) -> None:
    begun = begin_sequence(engine, engine.load(), JobRequest(input=TextPrompt("x" * 90)), KEY, [])
    assert (begun.spec.max_tokens, begun.start.prompt_tokens, begun.over) == (10, 90, None)


def test_what_an_earlier_lease_finished_is_not_computed_again(engine: SimulatedEngine) -> None:
    request = JobRequest(input=TextPrompt("hi"), sampling=Sampling(max_tokens=3))
    start = begin_sequence(engine, engine.load(), request, KEY, [])
    assert start.over is None
    assert begin_sequence(engine, engine.load(), request, KEY, [2**30, 2**30 + 1, 2**30 + 2]).over == "length"
    assert begin_sequence(engine, engine.load(), request, KEY, [2**30, 256]).over == "stop"


def test_no_token_asked_for_is_none_made(engine: SimulatedEngine) -> None:
    """Only a prompt to be scored still goes to the engine."""
    request = JobRequest(input=TextPrompt("hi"), sampling=Sampling(max_tokens=0), echo=True)
    begun = begin_sequence(engine, engine.load(), request, KEY, [])
    assert (begun.over, begun.start.echo) == ("length", "hi")
    scored = JobRequest(input=TextPrompt("hi"), sampling=Sampling(max_tokens=0), echo=True, prompt_logprobs=1)
    assert begin_sequence(engine, engine.load(), scored, KEY, []).over is None


def test_tools_that_cannot_be_forced_are_the_tools_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SimulatedEngine(SimulatedSettings())

    def refusing(spec: SequenceSpec) -> None:
        raise BadGrammar("no `not` here", param="guided_grammar")

    monkeypatch.setattr(engine, "prepare", refusing)
    tools = [{"type": "function", "function": {"name": "f"}}]
    request = JobRequest(input=ChatPrompt(messages=USER, tools=tools), tool_use=ToolUse("required"))
    with pytest.raises(BadGrammar, match="no `not` here") as refused:
        begin_sequence(engine, engine.load(), request, KEY, [])
    assert refused.value.param == "tools"


def test_what_the_client_left_to_the_model_is_as_the_model_says(engine: SimulatedEngine) -> None:
    card = replace(engine.load(), defaults={"temperature": 0.7, "top_k": 20})
    left = Sampling(temperature=1.0, top_p=1.0, unset=["temperature", "top_p", "top_k"])
    begun = begin_sequence(engine, card, JobRequest(input=TextPrompt("hi"), sampling=left), KEY, [])
    assert (begun.spec.sampling.temperature, begun.spec.sampling.top_p, begun.spec.sampling.top_k) == (0.7, 1.0, 20)
    asked = Sampling(temperature=1.0, unset=["top_p"])
    begun = begin_sequence(engine, card, JobRequest(input=TextPrompt("hi"), sampling=asked), KEY, [])
    assert (begun.spec.sampling.temperature, begun.spec.sampling.top_k) == (1.0, 0)


@pytest.mark.parametrize(
    ("request_", "earlier", "at_once"),
    [
        (JobRequest(input=ChatPrompt(messages=USER)), [], True),
        (JobRequest(input=TextPrompt("x" * BRIEF)), [], True),
        (JobRequest(input=TextPrompt("x" * (BRIEF + 1))), [], False),
        (JobRequest(input=TokensPrompt([1] * (BRIEF + 1))), [], False),
        (JobRequest(input=ChatPrompt(messages=[*USER, {"role": "user", "content": "x" * BRIEF}])), [], False),
        (JobRequest(input=ChatPrompt(messages=USER), guide=Guide("json_object")), [], False),
        (JobRequest(input=ChatPrompt(messages=USER), sampling=Sampling(stop=["x" * 999])), [], False),
        (JobRequest(input=ChatPrompt(messages=USER, tools=[{"type": "function"}])), [], False),
        (JobRequest(input=TextPrompt("x")), [7], False),  # earlier tokens are fed again one by one
    ],
)
def test_only_what_is_brief_begins_on_the_event_loop(request_: JobRequest, earlier: list[int], at_once: bool) -> None:
    assert brief(request_, earlier) == at_once
