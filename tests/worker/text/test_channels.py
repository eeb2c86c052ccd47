"""Answers of gpt-oss: every part names its channel (OpenAI's Harmony format)."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.common.chunk import Chunk
from millstream.common.job import ChatPrompt, Guide, JobRequest, Sampling, ToolUse
from millstream.worker.engines.grammar.tool_guides import tool_guide
from millstream.worker.engines.simulated.tokenizer import SimulatedTokenizer
from millstream.worker.text.parsers.formats import FORMATS, parser_for
from millstream.worker.text.tool_prompts import calls_in_words
from millstream.worker.text.transcript import Transcript, merge
from tests.worker.text.orders import call

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
THOUGHT = "<|channel|>analysis<|message|>Hm, a mill.<|end|>"
NEXT = "<|start|>assistant"
PREAMBLE = f"{NEXT}<|channel|>commentary<|message|>I look.<|end|>"
CALL = f'{NEXT}<|channel|>commentary to=functions.look <|constrain|>json<|message|>{{"key": "K1"}}<|call|>'
FINAL = f"{NEXT}<|channel|>final<|message|>It is late.<|return|>"


def said(
    text: str,
    cut: int | None = None,
    offered: bool = True,
    guide: Guide | None = None,
    reason: Any = "stop",
    **use: Any,
) -> tuple[Chunk, Chunk]:
    """Returns the answer's chunks as one, and the last chunk. `cut`: the bytes an earlier worker had made."""
    tools, wanted = (TOOLS, ToolUse(**use)) if offered else ([], None)
    request = JobRequest(ChatPrompt([], tools), Sampling(), guide=guide, tool_use=wanted)

    def begin() -> Transcript:
        return Transcript(SimulatedTokenizer(), request, [1, 2], FORMATS["harmony"])

    subject, ids = begin(), list(text.encode())
    chunks = [subject.feed(token, None, None) for token in ids[:cut]]
    if cut is not None:
        subject = begin()
        subject.refeed(ids[:cut])
        chunks += [subject.feed(token, None, None) for token in ids[cut:]]
    chunks += subject.end(reason)
    return merge(chunks[:-1]), chunks[-1]


def calls(chunk: Chunk) -> list[tuple[str, str]]:
    return [(delta.name, delta.arguments) for delta in chunk.tools]


def test_thoughts_words_and_a_call() -> None:
    chunk, last = said(THOUGHT + PREAMBLE + CALL)
    assert (chunk.reasoning, chunk.text, calls(chunk)) == ("Hm, a mill.", "I look.", [("look", '{"key": "K1"}')])
    assert last.finish == "tool_calls" and last.usage is not None
    assert len("Hm, a mill.") <= last.usage.reasoning < len(THOUGHT)


@pytest.mark.parametrize("offered", [True, False])
def test_an_answer(offered: bool) -> None:
    chunk, last = said(THOUGHT + FINAL, offered=offered)
    assert (chunk.reasoning, chunk.text, last.finish) == ("Hm, a mill.", "It is late.", "stop")


@settings(deadline=None)
@given(st.data())
def test_another_worker_goes_on_anywhere(data: st.DataObject) -> None:
    text = THOUGHT + PREAMBLE + CALL + NEXT + THOUGHT + FINAL
    cut = data.draw(st.integers(0, len(text.encode())))
    whole, last = said(text)
    assert (whole.reasoning, whole.text) == ("Hm, a mill.\n\nHm, a mill.", "I look.\n\nIt is late.")
    again, last_again = said(text, cut)
    assert (again.reasoning, again.text, calls(again)) == (whole.reasoning, whole.text, calls(whole))
    assert last_again == last


@pytest.mark.parametrize(
    "head",
    [
        " to=functions.look<|channel|>commentary <|constrain|>json",
        "<|channel|>commentary to=functions.look",
        "<|channel|>analysis to=look code",
    ],
)
def test_every_way_in_which_a_call_is_addressed(head: str) -> None:
    chunk, last = said(f"{head}<|message|>{{}}<|call|>")
    assert (calls(chunk), chunk.text, last.finish) == ([("look", "{}")], "", "tool_calls")
    alone, last = said(f"{head}<|message|>{{}}<|call|>", offered=False)
    assert not alone.tools and "{}" in (alone.text, alone.reasoning) and last.finish == "stop"


def test_several_calls() -> None:
    assert len(calls(said(CALL + CALL)[0])) == 2 and len(calls(said(CALL + CALL, parallel=False)[0])) == 1


@pytest.mark.parametrize("text", ['{"a": 1}', "Plain.", "a < b", "<|", "t", "to", "", "x <|start"])
def test_text_without_a_channel_is_the_answer(text: str) -> None:
    """So it is under a grammar, and where a model goes on with an answer that has begun."""
    for guide in (None, Guide("json_schema", "{}")):
        chunk, _ = said(text, guide=guide, offered=False)
        assert (chunk.text, chunk.reasoning, chunk.tools) == (text, "", [])


def test_a_head_without_an_end_is_text() -> None:
    text = "<|channel|>" + "x" * 600
    assert said(text)[0].text == text


def test_what_was_cut_is_never_the_notation() -> None:
    """A mark is one token, so it is never cut itself."""
    text = THOUGHT + CALL
    for end in [end for end in range(len(text)) if not re.search(r"<(\|\w*\|?)?$", text[:end])]:
        chunk, last = said(text[:end], reason="length")
        assert "<|" not in chunk.text + chunk.reasoning and "to=" not in chunk.text and last.finish == "length"
        assert not chunk.tools or chunk.tools[0].name == "look"
    assert calls(said(text[: text.index("{")], reason="length")[0]) == [("look", "")]


def test_a_forced_call_is_written_on_its_channel() -> None:
    guide = tool_guide(FORMATS["harmony"].syntax, TOOLS, ToolUse("required"))
    assert '"<|channel|>commentary to=functions."' in guide.value
    [message] = calls_in_words([call("", ("c1", "K1"))], FORMATS["harmony"])
    chunk, last = said(str(message["content"]), choice="required")
    assert (calls(chunk), last.finish) == ([("look", '{"key": "K1"}')], "tool_calls")


def test_the_chat_template_tells_the_notation() -> None:
    assert (
        parser_for("…<|start|>assistant<|channel|>analysis<|message|>{{ message.thinking }}<|end|>…").name == "harmony"
    )
