"""Calls whose parameters stand in tags of their own: Qwen 3 Coder's, GLM 4.5's, MiniMax M2's and DeepSeek V3.2's."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.common.chunk import Chunk
from millstream.common.job import ChatPrompt, JobRequest, Sampling, ToolUse
from millstream.worker.engines.grammar.tool_guides import tool_guide
from millstream.worker.engines.simulated.tokenizer import SimulatedTokenizer
from millstream.worker.text.parsers.formats import FORMATS, parser_for
from millstream.worker.text.tool_prompts import tell_tools
from millstream.worker.text.transcript import Transcript, merge

TEXT = {"type": "string"}
PARAMETERS = {
    "path": TEXT,
    "line": {"type": "integer"},
    "ratio": {"type": "number"},
    "all": {"type": "boolean"},
    "edits": {"type": "array"},
    "where": {"type": "object"},
    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "place": {"$ref": "#/$defs/Place"},
}
TOOLS = [
    {"type": "function", "function": {"name": "edit", "parameters": {"type": "object", "properties": PARAMETERS}}},
    {"type": "function", "function": {"name": "now"}},
]
SELF_TOLD = {"deepseek_v32": "function_calls", "deepseek_v4": "tool_calls"}  # values say themselves what they are
BY_SCHEMA = ["qwen3_coder", "glm", "minimax"]
TAGGED = [*BY_SCHEMA, *SELF_TOLD]


def written(format: str, name: str, **arguments: str) -> str:
    """Returns a call as a model of that family writes it."""
    if format == "glm":
        given = "".join(f"<arg_key>{k}</arg_key>\n<arg_value>{v}</arg_value>\n" for k, v in arguments.items())
        return f"<tool_call>{name}\n{given}</tool_call>"
    if format == "minimax":
        given = "".join(f'<parameter name="{k}">{v}</parameter>\n' for k, v in arguments.items())
        return f'<minimax:tool_call>\n<invoke name="{name}">\n{given}</invoke>\n</minimax:tool_call>'
    if format in SELF_TOLD:
        return dsml(format, name, **{k: (v, PARAMETERS.get(k, TEXT) == TEXT) for k, v in arguments.items()})
    given = "".join(f"<parameter={k}>\n{v}\n</parameter>\n" for k, v in arguments.items())
    return f"<tool_call>\n<function={name}>\n{given}</function>\n</tool_call>"


def dsml(format: str, name: str, **arguments: tuple[str, bool]) -> str:
    """Returns a call as DeepSeek V3.2 and V4 write it: `arguments` tell of each value whether it is a text."""
    given = "".join(
        f'<｜DSML｜parameter name="{k}" string="{str(text).lower()}">{v}</｜DSML｜parameter>\n'
        for k, (v, text) in arguments.items()
    )
    group = SELF_TOLD[format]
    return f'<｜DSML｜{group}>\n<｜DSML｜invoke name="{name}">\n{given}</｜DSML｜invoke>\n</｜DSML｜{group}>'


def said(text: str, format: str, cut: int | None = None, parallel: bool = True) -> tuple[Chunk, Chunk]:
    """Returns the answer's chunks as one, and the last chunk. `cut`: the bytes an earlier worker had made."""
    request = JobRequest(ChatPrompt([], TOOLS), Sampling(), tool_use=ToolUse(parallel=parallel))
    subject = Transcript(SimulatedTokenizer(), request, [1, 2], FORMATS[format])
    ids = list(text.encode())
    chunks = [subject.feed(token, None, None) for token in ids[:cut]]
    if cut is not None:
        subject = Transcript(SimulatedTokenizer(), request, [1, 2], FORMATS[format])
        subject.refeed(ids[:cut])
        chunks += [subject.feed(token, None, None) for token in ids[cut:]]
    chunks += subject.end("stop")
    return merge(chunks[:-1]), chunks[-1]


def calls(chunk: Chunk) -> list[tuple[str, Any]]:
    return [(delta.name, json.loads(delta.arguments)) for delta in chunk.tools]


@pytest.mark.parametrize("format", BY_SCHEMA)
@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("path", "a.py", "a.py"),
        ("path", "12", "12"),
        ("path", "null", "null"),
        ("path", 'say "hi"\n\tand \\n é 💡', 'say "hi"\n\tand \\n é 💡'),
        ("path", "</para <b> </function", "</para <b> </function"),
        ("line", "12", 12),
        ("line", "twelve", "twelve"),
        ("ratio", "1", 1),
        ("ratio", "1.5", 1.5),
        ("ratio", "NaN", "NaN"),
        ("all", "true", True),
        ("all", "False", False),
        ("edits", '[{"old": "a"}]', [{"old": "a"}]),
        ("edits", "[{'old': None}]", [{"old": None}]),
        ("edits", "[{1, 2}]", "[{1, 2}]"),
        ("edits", '["\\ud800"]', ["\ud800"]),
        ("where", "{}", {}),
        ("where", "[" * 5000, "[" * 5000),
        ("note", "null", None),
        ("note", "12", "12"),
        ("note", '"q"', '"q"'),
        ("place", '{"x": 1}', {"x": 1}),
        ("place", "here", "here"),
        ("unknown", "12", "12"),
    ],
)
def test_the_tools_schema_tells_what_a_value_is(format: str, key: str, value: str, meant: Any) -> None:
    chunk, last = said("Look.\n" + written(format, "edit", **{key: value}), format)
    assert (chunk.text, calls(chunk), last.finish) == ("Look.", [("edit", {key: meant})], "tool_calls")


@pytest.mark.parametrize("format", SELF_TOLD)
@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30), value=st.integers() | st.booleans())
def test_a_value_says_itself_whether_it_is_a_text(format: str, text: str, value: int) -> None:
    """White space around a text is part of it, and the schema has no say: the model is told to write it so."""
    call = dsml(format, "edit", path=(text, True), line=("7", True), unknown=(json.dumps(value), False))
    chunk, last = said(f"Look.\n\n{call}", format)
    meant = {"path": text, "line": "7", "unknown": value}
    assert (chunk.text, calls(chunk), last.finish) == ("Look.", [("edit", meant)], "tool_calls")


@pytest.mark.parametrize(
    ("value", "meant"),
    [("12", 12), ('"12"', "12"), ("null", None), ("True", True), ('{"a": [1]}', {"a": [1]}), ("here", "here")],
)
def test_a_value_that_is_called_json_is_read_as_such(value: str, meant: Any) -> None:
    chunk, _ = said(dsml("deepseek_v32", "edit", path=(value, False)), "deepseek_v32")
    assert calls(chunk) == [("edit", {"path": meant})]


@pytest.mark.parametrize("format", TAGGED)
def test_several_calls_and_one_without_parameters(format: str) -> None:
    text = written(format, "now") + "\n" + written(format, "edit", path="a", line="3") + "\n"
    chunk, _ = said(text, format)
    assert (chunk.text, calls(chunk)) == ("", [("now", {}), ("edit", {"path": "a", "line": 3})])
    assert len({delta.id for delta in chunk.tools}) == 2
    assert calls(said(text, format, parallel=False)[0]) == [("now", {})]


def test_calls_of_one_group_and_calls_without_the_marker() -> None:
    both = "<function=now>\n</function>\n<function=edit>\n<parameter=path>\na\n</parameter>\n</function>"
    for text in (f"<tool_call>\n{both}\n</tool_call>", both):
        chunk, _ = said(text, "qwen3_coder")
        assert (chunk.text, calls(chunk)) == ("", [("now", {}), ("edit", {"path": "a"})])
    group = '<minimax:tool_call>\n<invoke name="now">\n</invoke>\n<invoke name="now">\n</invoke>\n</minimax:tool_call>'
    assert calls(said(group, "minimax")[0]) == [("now", {})] * 2
    invoked = '<｜DSML｜invoke name="now">\n</｜DSML｜invoke>\n'
    for text in (f"<｜DSML｜function_calls>\n{invoked * 2}</｜DSML｜function_calls>", invoked * 2):
        assert calls(said(text, "deepseek_v32")[0]) == [("now", {})] * 2


@pytest.mark.parametrize("format", TAGGED)
@settings(max_examples=50, deadline=None)
@given(cut=st.integers(0, 400), text=st.text(max_size=30))
def test_another_worker_goes_on_in_the_middle_of_a_call(format: str, cut: int, text: str) -> None:
    answer = "So: " + written(format, "edit", path=text, line="3", edits="[1]") + "\nDone."
    whole = said(answer, format)[0]
    assert said(answer, format, cut)[0] == whole
    assert not any("\ud800" <= character <= "\udfff" for delta in whole.tools for character in delta.arguments)


def test_a_text_goes_out_while_it_grows() -> None:
    request = JobRequest(ChatPrompt([], TOOLS), Sampling(), tool_use=ToolUse())
    subject = Transcript(SimulatedTokenizer(), request, [1, 2], FORMATS["qwen3_coder"])
    begun = written("qwen3_coder", "edit", path="a long text").partition("ng text")[0]
    chunk = merge([subject.feed(token, None, None) for token in begun.encode()])
    assert [(delta.name, delta.arguments) for delta in chunk.tools] == [("edit", '{"path": "a lo')]
    held = merge(subject.end("length"))
    assert (held.text, held.tools) == ("", [])


@pytest.mark.parametrize("format", TAGGED)
@pytest.mark.parametrize("inside", ["what <b>", "", "<", '{"name": "edit", "arguments": {}}', "\n\n<func tion=x>"])
def test_what_is_no_call_stays_text(format: str, inside: str) -> None:
    text = f"a {FORMATS[format].marker}{inside}"
    chunk, last = said(text, format)
    expected = ([], "stop")
    if format == "glm" and inside == "what <b>":  # a name, and then something else than a parameter
        expected, text = ([("what", "")], "tool_calls"), "a"
    assert ([(delta.name, delta.arguments) for delta in chunk.tools], last.finish) == expected
    assert chunk.text == text


@pytest.mark.parametrize("format", TAGGED)
def test_a_forced_call_is_written_in_json_between_the_same_marks(format: str) -> None:
    notation = FORMATS[format]
    use = ToolUse("named", "edit", parallel=False)
    assert notation.marker in str(tool_guide(notation.syntax, TOOLS, use).value)
    body = json.dumps({"name": "edit", "arguments": {"line": 3}})
    request = JobRequest(ChatPrompt([], TOOLS), Sampling(), tool_use=use)
    subject = Transcript(SimulatedTokenizer(), request, [1, 2], notation)
    text = f"{notation.syntax.prefix}{body}{notation.syntax.suffix}"
    chunk = merge([subject.feed(token, None, None) for token in text.encode()])
    assert calls(chunk) == [("edit", {"line": 3})]


@pytest.mark.parametrize("format", TAGGED)
def test_a_model_that_has_to_be_told_its_tools_is_shown_the_notation(format: str) -> None:
    [system, _] = tell_tools([{"role": "user", "content": "hi"}], TOOLS, FORMATS[format])
    assert written(format, "function_name", parameter="value") in system["content"]


@pytest.mark.parametrize(
    ("template", "format"),
    [
        ("…<tool_call>\n<function=example>\n<parameter=x>…", "qwen3_coder"),
        ("…<tool_call>{name}\n<arg_key>{key}</arg_key>…", "glm"),
        ("…<minimax:tool_call>\n<invoke name=…", "minimax"),
        ("…<｜DSML｜function_calls>\n<｜DSML｜invoke name=…", "deepseek_v32"),
        ("{% set dsml = '｜DSML｜' %}…{{ '<' ~ dsml ~ 'function_calls>' }}…", "deepseek_v32"),
        ("…<｜DSML｜tool_calls>\n<｜DSML｜invoke name=…", "deepseek_v4"),
        ("…<tool_call>\n{json}\n</tool_call>…", "hermes"),
    ],
)
def test_the_chat_template_tells_the_notation(template: str, format: str) -> None:
    assert parser_for(template).name == format
