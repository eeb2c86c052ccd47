"""Calls whose name stands before their arguments: DeepSeek V3's and R1's, and Kimi K2's."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.common.chunk import Chunk
from millstream.common.job import ChatPrompt, JobRequest, Sampling, ToolUse
from millstream.worker.engines.grammar.tool_guides import tool_guide
from millstream.worker.engines.simulated.tokenizer import SimulatedTokenizer
from millstream.worker.text.message_order import numbered_ids
from millstream.worker.text.parsers.formats import FORMATS, parser_for
from millstream.worker.text.tool_prompts import calls_in_words
from millstream.worker.text.transcript import Transcript, merge
from tests.worker.text.orders import call, result, say

TOOLS = [
    {"type": "function", "function": {"name": "edit", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "mcp__mill.grind-2"}},
]
HEADED = ["deepseek_r1", "deepseek", "kimi"]
BETWEEN = {"deepseek_r1": "\n", "deepseek": "", "kimi": ""}
GROUP = {
    "deepseek_r1": ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    "deepseek": ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    "kimi": ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
}


def one(format: str, name: str, arguments: str, number: int = 0) -> str:
    """Returns a call as a model of that family writes it."""
    match format:
        case "deepseek_r1":
            inner = f"function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```"
            return f"<｜tool▁call▁begin｜>{inner}<｜tool▁call▁end｜>"
        case "deepseek":
            return f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>"
        case _:
            head = f"<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>"
            return f"{head}{arguments}<|tool_call_end|>"


def group(format: str, *calls: str) -> str:
    opens, closes = GROUP[format]
    return opens + BETWEEN[format].join(calls) + closes


def said(
    text: str, format: str, cut: int | None = None, reason: Any = "stop", **use: Any
) -> tuple[Chunk, Chunk, list[Chunk]]:
    """Returns the answer's chunks as one, the last chunk, and the chunks. `cut`: the bytes an earlier worker made."""
    request = JobRequest(ChatPrompt([], TOOLS), Sampling(), tool_use=ToolUse(**use))
    subject = Transcript(SimulatedTokenizer(), request, [1, 2], FORMATS[format])
    ids = list(text.encode())
    chunks = [subject.feed(token, None, None) for token in ids[:cut]]
    if cut is not None:
        subject = Transcript(SimulatedTokenizer(), request, [1, 2], FORMATS[format])
        subject.refeed(ids[:cut])
        chunks += [subject.feed(token, None, None) for token in ids[cut:]]
    chunks += subject.end(reason)
    return merge(chunks[:-1]), chunks[-1], chunks


def calls(chunk: Chunk) -> list[tuple[str, str]]:
    return [(delta.name, delta.arguments) for delta in chunk.tools]


def both(format: str) -> str:
    first = one(format, "edit", '{"text": "a } \\" ``` b"}')
    return f"I edit.\n\n{group(format, first, one(format, 'mcp__mill.grind-2', '{}', 1))}"


@pytest.mark.parametrize("format", HEADED)
def test_a_group_of_calls(format: str) -> None:
    chunk, last, chunks = said(both(format), format)
    assert (chunk.text, last.finish) == ("I edit.", "tool_calls")
    assert calls(chunk) == [("edit", '{"text": "a } \\" ``` b"}'), ("mcp__mill.grind-2", "{}")]
    pieces = [delta.arguments for each in chunks for delta in each.tools if delta.index == 0]
    assert len([piece for piece in pieces if piece]) > 10  # they go out while they grow
    assert len(calls(said(both(format), format, parallel=False)[0])) == 1


@settings(deadline=None)
@given(st.data(), st.sampled_from(HEADED))
def test_another_worker_goes_on_in_the_middle_of_a_call(data: st.DataObject, format: str) -> None:
    text = both(format) + "\nThat is all."
    cut = data.draw(st.integers(0, len(text.encode())))
    whole, last, _ = said(text, format)
    continued, last_again, _ = said(text, format, cut)
    assert (continued.text, calls(continued), last_again.finish) == (whole.text, calls(whole), last.finish)


@pytest.mark.parametrize("format", HEADED)
def test_text_after_calls_and_calls_without_the_groups_marks(format: str) -> None:
    chunk, _, _ = said(f"{both(format)}\nThat is all.", format)
    assert chunk.text == "I edit.\nThat is all." and len(calls(chunk)) == 2
    assert calls(said(one(format, "edit", '{"a": 1}'), format)[0]) == [("edit", '{"a": 1}')]
    apart = group(format, one(format, "edit", "{}")) + "\n" + group(format, one(format, "edit", '{"b": 2}'))
    assert calls(said(apart, format)[0]) == [("edit", "{}"), ("edit", '{"b": 2}')]


@pytest.mark.parametrize("format", HEADED)
def test_what_is_no_call_stays_text(format: str) -> None:
    opens, closes = GROUP[format]
    broken = [opens, f"{opens}no call{closes}", opens + one(format, "edit", "no object"), f"a < b {opens[:5]} c"]
    for text in (*broken, one(format, "n" * 600, "{}")):
        chunk, last, _ = said(text, format)
        assert (chunk.text, chunk.tools, last.finish) == (text, [], "stop")


@pytest.mark.parametrize("format", HEADED)
def test_a_call_that_was_cut(format: str) -> None:
    """Arguments go out as far as they came; of a forced call also a name that is whole, and never the notation."""
    text = group(format, one(format, "edit", '{"a": 1}'))
    chunk, last, _ = said(text[: text.index('": 1')], format, reason="length")
    assert (chunk.text, calls(chunk), last.finish) == ("", [("edit", '{"a')], "length")
    for end in range(len(text)):
        cut, _, _ = said(text[:end], format, reason="length", choice="required")
        assert cut.text == "" and (not cut.tools or cut.tools[0].name == "edit")
    assert calls(said(text[: text.index("{")], format, reason="length", choice="required")[0]) == [("edit", "")]


@pytest.mark.parametrize("format", HEADED)
def test_a_forced_call_is_written_in_the_notation(format: str) -> None:
    guide = tool_guide(FORMATS[format].syntax, TOOLS, ToolUse("required"))
    opens, closes = GROUP[format]
    assert (
        json.dumps(opens, ensure_ascii=False) in guide.value and json.dumps(closes, ensure_ascii=False) in guide.value
    )
    [message] = calls_in_words([call("", ("c1", "K1"))], FORMATS[format])
    chunk, _, _ = said(str(message["content"]), format, choice="required")
    assert calls(chunk) == [("look", '{"key": "K1"}')]


@pytest.mark.parametrize(
    ("template", "format"),
    [
        (
            "…'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + type + '<｜tool▁sep｜>' + name + '\\n```json\\n'…",
            "deepseek_r1",
        ),
        ("…'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + name + '<｜tool▁sep｜>' + arguments…", "deepseek"),
        ("…<|tool_calls_section_begin|><|tool_call_begin|>{{ id }}<|tool_call_argument_begin|>…", "kimi"),
    ],
)
def test_the_chat_template_tells_the_notation(template: str, format: str) -> None:
    assert parser_for(template).name == format


def test_identities_name_the_function_where_the_template_shows_nothing_else_of_it() -> None:
    conversation = [
        say("user", "U1"),
        call("", ("c", "K1"), ("d", "K2")),
        *(result("d", "R2"), result("c", "R1")),
        call("", ("c", "K3")),  # some clients begin to count again
        *(result("c", "R3"), result("nobody's", "R4")),
    ]
    numbered = numbered_ids(conversation)
    ids = [each["id"] for message in numbered for each in message.get("tool_calls", ())]
    assert ids == ["functions.look:0", "functions.look:1", "functions.look:2"]
    answered = [message["tool_call_id"] for message in numbered if message["role"] == "tool"]
    assert answered == ["functions.look:1", "functions.look:0", "functions.look:2", "nobody's"]
    assert conversation[1]["tool_calls"][0]["id"] == "c"
