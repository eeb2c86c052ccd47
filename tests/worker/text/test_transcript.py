"""One job's text: reasoning, calls and stops come out the same wherever the job is taken up, however it is cut."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.common.chunk import Chunk, FinishReason
from millstream.common.job import ChatPrompt, Guide, JobRequest, Sampling, TextPrompt, ToolUse
from millstream.worker.engines.base import RawLogprob
from millstream.worker.engines.simulated.tokenizer import SimulatedTokenizer
from millstream.worker.text.parsers.formats import FORMATS
from millstream.worker.text.transcript import Transcript, merge

tokenizer = SimulatedTokenizer()
TOOLS = [{"type": "function", "function": {"name": "f"}}]
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "}"}}\n</tool_call>'


def transcript(format: str = "hermes", parallel: bool = True, **sampling: Any) -> Transcript:
    use = ToolUse(parallel=parallel)
    request = JobRequest(ChatPrompt([], TOOLS), Sampling(**sampling), tool_use=use)
    return Transcript(tokenizer, request, [1, 2], FORMATS[format])


def play(subject: Transcript, ids: list[int], reason: FinishReason = "stop") -> list[Chunk]:
    chunks: list[Chunk] = []
    for token in ids:
        chunks.append(subject.feed(token, None, None))
        if subject.stopped:
            break
    return chunks + subject.end(reason)


def said(text: str, **options: Any) -> tuple[Chunk, Chunk]:
    chunks = play(transcript(**options), list(text.encode()))
    return merge(chunks[:-1]), chunks[-1]


def calls(chunk: Chunk) -> list[tuple[str, str]]:
    return [(delta.name, delta.arguments) for delta in chunk.tools]


def test_hermes_with_reasoning() -> None:
    chunk, last = said(f"<think>\nhm\n</think>\n\nLet me see.\n{CALL}\n{CALL}")
    assert (chunk.reasoning, chunk.text) == ("hm", "Let me see.")
    assert calls(chunk) == [("f", '{"a": "}"}')] * 2
    assert last.finish == "tool_calls" and last.usage is not None and last.usage.reasoning >= 2
    assert len({delta.id for delta in chunk.tools}) == 2


def test_only_the_first_call_when_calls_are_not_parallel() -> None:
    assert len(said(f"{CALL}\n{CALL}", parallel=False)[0].tools) == 1


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("llama3", '{"name": "f", "parameters": {"a": 1}}'),
        ("llama3", '<|python_tag|>{"name": "f", "parameters": {"a": 1}}'),
        ("llama3", '{"type": "function", "name": "f", "parameters": {"a": 1}}'),
        ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]'),
        ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1}'),
        ("mistral", '[TOOL_CALLS]f[CALL_ID]9x[ARGS] {"a": 1}'),
        ("json", '[{"name": "f", "arguments": {"a": 1}}]'),
        ("json", '{"arguments": {"a": 1}, "name": "f"}'),
        ("pythonic", "[f(a=1)]"),
    ],
)
def test_every_notation(format: str, text: str) -> None:
    chunk, last = said(text, format=format)
    assert (chunk.text, calls(chunk), last.finish) == ("", [("f", '{"a": 1}')], "tool_calls")


@pytest.mark.parametrize("text", ['{"a": 1}', "[1, 2]", '{"name": 3}', "[f(1)]", "{never closed", "a < b", " "])
@pytest.mark.parametrize("format", list(FORMATS))
def test_what_is_no_call_stays_text(format: str, text: str) -> None:
    chunk, last = said(text, format=format)
    assert (chunk.text, chunk.tools, last.finish) == (text, [], "stop")


def test_several_calls_of_mistral_s_newer_spelling() -> None:
    chunk, last = said(
        'Wait. [TOOL_CALLS]f[ARGS]{"a": "}"}[TOOL_CALLS]g[ARGS]{} [TOOL_CALLS]what now?', format="mistral"
    )
    assert calls(chunk) == [("f", '{"a": "}"}'), ("g", "{}")]
    assert (chunk.text, last.finish) == ("Wait. [TOOL_CALLS]what now?", "tool_calls")


@pytest.mark.parametrize("text", ["<tool_call>\nnonsense</tool_call>", '<tool_call>{"x": 1}</tool_call>', "x\n<tool_c"])
def test_a_malformed_call_stays_text(text: str) -> None:
    assert said(text)[0] == Chunk(ids=list(text.encode()), text=text)


def test_min_tokens_holds_stop_strings_back() -> None:
    chunk, last = said("a STOP b STOP c", stop=["STOP"], min_tokens=6)
    assert (chunk.text, last.finish, last.stopped_by) == ("a STOP b ", "stop", "STOP")
    assert said("ab STOP", stop=["STOP"], min_tokens=4)[0].text == "ab STOP"  # begun too early


@pytest.mark.parametrize("bound", [{"guide": Guide("json_object")}, {"tool_use": ToolUse("required")}], ids=str)
def test_a_grammar_leaves_no_room_for_thoughts(bound: dict[str, Any]) -> None:
    """The template has opened <think>, and nothing closes it: what the grammar made is the answer all the same."""
    request = JobRequest(ChatPrompt([], TOOLS), **bound)
    subject = Transcript(tokenizer, request, tokenizer.encode("<think>\n", special=False), FORMATS["json"])
    text = '[{"name": "f", "arguments": {"a": 1}}]'
    chunk = merge(play(subject, list(text.encode()))[:-1])
    assert chunk.reasoning == ""
    assert chunk.text == text if "guide" in bound else calls(chunk) == [("f", '{"a": 1}')]


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_forced_call_that_was_cut_is_no_text(name: str) -> None:
    """Wherever it is cut: the notation is never the answer, and the call is told as far as it came."""
    syntax = FORMATS[name].syntax
    bodies = {
        "json": f'{{"name": "f", "{syntax.arguments_key}": {{"a": ")]"}}}}',
        "pythonic": 'f(a=")]")',
        "headed": f'f{syntax.middle}{{"a": ")]"}}',
    }
    body = bodies[syntax.style]
    text = syntax.opening + syntax.separator.join([syntax.prefix + body + syntax.suffix] * 2) + syntax.closing
    request = JobRequest(ChatPrompt([], TOOLS), tool_use=ToolUse("required"))
    named = 0
    for cut in range(len(text) + 1):
        subject = Transcript(tokenizer, request, [1, 2], FORMATS[name])
        chunk = merge(play(subject, list(text[:cut].encode()))[:-1])
        assert chunk.text == ""
        begun = len({delta.index for delta in chunk.tools})
        assert named <= begun <= named + 1
        assert [delta.name for delta in chunk.tools if delta.name] == ["f"] * begun
        named = begun
    assert named == 2 and "".join(delta.arguments for delta in chunk.tools) == '{"a": ")]"}' * 2


def test_arguments_grow() -> None:
    chunks = play(transcript(), list(CALL.encode()))
    assert len([delta for chunk in chunks for delta in chunk.tools]) > 5


def test_a_stop_string_ends_the_text_and_the_stop_token_is_silent() -> None:
    chunk, last = said("one STOP two", stop=["STOP"])
    assert (chunk.text, last.finish) == ("one ", "stop")
    assert transcript().feed(65, RawLogprob(-1.0, []), "stop") == Chunk(ids=[65])


def test_logprobs_carry_the_bytes_of_part_of_a_character() -> None:
    request = JobRequest(TextPrompt("x"))
    chunk = Transcript(tokenizer, request, [1]).feed(0xC3, RawLogprob(-0.5, [(65, -0.5), (0xC3, -0.7)]), None)
    whole, part = chunk.logprobs[0].top
    assert chunk.logprobs[0].bytes == part.bytes == [0xC3]
    assert (whole.token, whole.bytes) == ("A", [])  # the text tells them


PARTS = ["<think>", "</think>", "<tool_call>", "</tool_call>", CALL, "[TOOL_CALLS]", "[", "]", "{", "}", '{"name": "f"']
PARTS += [
    ', "arguments": ',
    ', "parameters": {"b": [1]}',
    "f(a=1)",
    "f[ARGS]",
    "[CALL_ID]",
    "\n",
    " ",
    "é",
    "😀",
    "stop",
    "st",
    ",",
    ";",
    '"',
    "\\",
]
texts = st.lists(st.sampled_from(PARTS), max_size=10).map("".join)


def meaning(chunks: list[Chunk]) -> tuple[Chunk, Chunk]:
    return merge(chunks[:-1]), chunks[-1]


@settings(max_examples=200, deadline=None)
@given(texts, st.sampled_from(list(FORMATS)), st.data())
def test_taking_up_anywhere_changes_nothing(text: str, format: str, data: st.DataObject) -> None:
    ids = list(text.encode())
    whole = play(transcript(format, stop=["stop"]), ids)
    split = data.draw(st.integers(0, sum(len(chunk.ids) for chunk in whole)))
    again = transcript(format, stop=["stop"])
    again.refeed(ids[:split])
    rest = again.end("stop") if again.stopped else play(again, ids[split:])
    assert whole[:split] + rest == whole


class Words(SimulatedTokenizer):
    """Tokens above 1000 stand for whole texts, so that the same text can be cut in any way."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def decode(self, ids: Any, *, skip_special: bool = True) -> str:
        return "".join(self.words[id - 1000] if id >= 1000 else chr(id) for id in ids)


@settings(max_examples=200, deadline=None)
@given(texts, st.sampled_from(list(FORMATS)), st.sets(st.integers(1, 60)))
def test_any_cutting_gives_the_same(text: str, format: str, cuts: set[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    words = [text[a:b] for a, b in pairwise(edges)]
    request = JobRequest(ChatPrompt([], TOOLS), Sampling(stop=["stop"]), tool_use=ToolUse())
    cut = play(Transcript(Words(words), request, [1, 2], FORMATS[format]), [1000 + i for i in range(len(words))])
    by_byte = play(transcript(format, stop=["stop"]), list(text.encode()))
    one, other = meaning(cut)[0], meaning(by_byte)[0]
    assert (one.text, one.reasoning, one.tools) == (other.text, other.reasoning, other.tools)
    assert cut[-1].finish == by_byte[-1].finish


class Marked(SimulatedTokenizer):
    """Has the marker of tool calls as a special token, as Mistral's tokenizers do."""

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return [300] if text == "[TOOL_CALLS]" else super().encode(text, special=special)

    def decode(self, ids: Any, *, skip_special: bool = True) -> str:
        return super().decode([id for id in ids if id != 300], skip_special=skip_special)


def test_a_marker_that_is_a_special_token_is_seen() -> None:
    request = JobRequest(ChatPrompt([], TOOLS), tool_use=ToolUse())
    subject = Transcript(Marked(), request, [1, 2], FORMATS["mistral"])
    chunks = play(subject, [300, *b'[{"name": "f", "arguments": {}}]'])
    assert calls(merge(chunks[:-1])) == [("f", "{}")]


def test_a_scripted_answer_comes_back_exactly() -> None:
    from millstream.worker.engines.simulated.script import parse_script

    script = parse_script("script: " + json.dumps({"reasoning": "hm", "text": "hé", "tool_calls": [{"name": "f"}]}), 0)
    assert script is not None
    chunk, _ = said(script.spoken())
    assert (chunk.reasoning, chunk.text, calls(chunk)) == ("hm", "hé", [("f", "{}")])
