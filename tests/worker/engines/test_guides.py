"""Even random weights at full temperature write what the grammar says."""

import json
import re
from typing import Any

import jsonschema
import pytest

from millstream.common.errors import BadGrammar, EngineError
from millstream.common.job import ChatPrompt, Guide, JobRequest, ToolUse
from millstream.worker.engines.base import SequenceKey
from millstream.worker.engines.grammar.compiling import INCOMPLETE, given_up
from millstream.worker.engines.grammar.tool_guides import CallSyntax, tool_guide
from millstream.worker.jobs.prepare import begin_sequence, compile_guide
from millstream.worker.text.parsers.formats import FORMATS
from tests.worker.engines.rig import Rig, choice

PROMPT = [60, 61, 62]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"$ref": "#/$defs/city"}, "unit": {"enum": ["c", "f"]}},
                "required": ["city"],
                "additionalProperties": False,
                "$defs": {"city": {"enum": ["Paris", "Rome"]}},
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
HERMES = CallSyntax(prefix="<tool_call>\n", suffix="\n</tool_call>", separator="\n")


def written(rig: Rig, guide: Guide, seed: int, max_tokens: int = 400) -> str:
    spec = rig.spec(PROMPT, max_tokens, temperature=1.0, seed=seed, guide=guide, ignore_eos=False)
    (outputs,) = rig.run(spec)
    assert outputs[-1].finish == "stop", "cut by length"
    return rig.engine.tokenizer.decode([o.token for o in outputs])


@pytest.mark.parametrize("seed", range(4))
def test_json_schema(tiny: Rig, seed: int) -> None:
    jsonschema.validate(json.loads(written(tiny, Guide("json_schema", json.dumps(SCHEMA)), seed)), SCHEMA)


def test_regex_and_choice_and_grammar(tiny: Rig) -> None:
    assert re.fullmatch("[a-c]{3,9}-[0-9]{2}", written(tiny, Guide("regex", "[a-c]{3,9}-[0-9]{2}"), 1))
    assert written(tiny, choice("yes", "no", "perhaps"), 2) in ("yes", "no", "perhaps")
    assert re.fullmatch("(ab)+!", written(tiny, Guide("grammar", 'start: ab+ "!"\nab: "ab"'), 3))


def test_json_object_when_the_length_allows(tiny: Rig) -> None:
    biased = {"125": 30.0}  # "}" in this tokenizer's alphabet, so that random weights come to an end
    spec = tiny.spec(
        PROMPT, 60, temperature=1.0, seed=1, guide=Guide("json_object"), logit_bias=biased, ignore_eos=False
    )
    (outputs,) = tiny.run(spec)
    text = tiny.engine.tokenizer.decode([o.token for o in outputs])
    assert text.startswith("{")
    if outputs[-1].finish == "stop":
        assert isinstance(json.loads(text), dict)


def test_guided_rows_do_not_disturb_free_ones(tiny: Rig) -> None:
    free = tiny.one(PROMPT, 30, temperature=1.0, seed=8)
    guided = tiny.spec(PROMPT, 30, temperature=1.0, seed=8, guide=Guide("regex", "[xyz]{30}"))
    together = tiny.tokens(guided, tiny.spec(PROMPT, 30, temperature=1.0, seed=8))
    assert together[1] == free
    assert re.fullmatch("[xyz]{29,30}", tiny.engine.tokenizer.decode(together[0]))


def test_min_tokens_yields_to_a_finished_grammar(tiny: Rig) -> None:
    spec = tiny.spec(PROMPT, 30, temperature=1.0, seed=1, guide=choice("ok"), min_tokens=20, ignore_eos=False)
    (outputs,) = tiny.run(spec)
    assert tiny.engine.tokenizer.decode([o.token for o in outputs]) == "ok"


@pytest.mark.parametrize(
    ("guide", "why", "param"),
    [
        (Guide("json_schema", '{"type": "objet"}'), "objet", "response_format"),
        (Guide("json_schema", "{nope"), "Expecting property name", "response_format"),
        (Guide("json_schema", '{"type": "array", "uniqueItems": true}', strict=True), "uniqueItems", "response_format"),
        (Guide("regex", "(a", "guided_regex"), "unclosed group", "guided_regex"),
        (Guide("choice", "[]", "guided_choice"), "non-empty JSON list", "guided_choice"),
        (Guide("grammar", "start: nope", "guided_grammar"), "unknown name", "guided_grammar"),
        (
            Guide("grammar", 'start: start "a" | start', "x"),
            "no text follows it to an end",
            "x",
        ),  # allows no text at all
    ],
    ids=str,
)
def test_what_cannot_be_compiled_is_refused_with_the_reason(tiny: Rig, guide: Guide, why: str, param: str) -> None:
    with pytest.raises(BadGrammar, match=why) as refused:
        tiny.engine.add(tiny.spec(PROMPT, 5, guide=guide))
    assert refused.value.param == param


@pytest.mark.parametrize("seed", range(3))
def test_a_required_call_is_a_call(tiny: Rig, seed: int) -> None:
    text = written(tiny, tool_guide(HERMES, TOOLS, ToolUse("required", parallel=False)), seed)
    found = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>", text)
    assert found
    call = json.loads(found.group(1))
    assert list(call) == ["name", "arguments"]
    assert call["name"] in ("get_weather", "now")
    if call["name"] == "get_weather":
        assert call["arguments"]["city"] in ("Paris", "Rome")


def test_a_named_call_names_it(tiny: Rig) -> None:
    bare = CallSyntax()
    text = written(tiny, tool_guide(bare, TOOLS, ToolUse("named", "now", parallel=False)), 4)
    assert json.loads(text) == {"name": "now", "arguments": {}}


def test_several_calls_are_bounded(tiny: Rig) -> None:
    short = CallSyntax(separator=";", name_key="n", arguments_key="a")
    calls = written(tiny, tool_guide(short, TOOLS[1:], ToolUse("required")), 5).split(";")
    assert 1 <= len(calls) <= 16
    assert all(json.loads(call) == {"n": "now", "a": {}} for call in calls)


def test_pythonic_calls(tiny: Rig) -> None:
    syntax = CallSyntax(opening="[", closing="]", separator=", ", style="pythonic")
    text = written(tiny, tool_guide(syntax, TOOLS, ToolUse("named", "get_weather", parallel=False)), 6)
    assert re.fullmatch(r'\[get_weather\(city="(Paris|Rome)"(, unit="[cf]")?\)\]', text)


@pytest.mark.parametrize("format", ["harmony", "deepseek_r1", "deepseek", "kimi"])
def test_calls_whose_name_stands_before_their_arguments(tiny: Rig, format: str) -> None:
    syntax = FORMATS[format].syntax
    text = written(tiny, tool_guide(syntax, TOOLS, ToolUse("named", "get_weather", parallel=False)), 7)
    head = f"{syntax.opening}{syntax.prefix}get_weather{syntax.middle}"
    tail = f"{syntax.suffix}{syntax.closing}"
    assert text.startswith(head) and text.endswith(tail)
    assert json.loads(text[len(head) : len(text) - len(tail)])["city"] in ("Paris", "Rome")


def test_an_unknown_function_is_refused() -> None:
    with pytest.raises(BadGrammar, match="fly"):
        tool_guide(HERMES, TOOLS, ToolUse("named", "fly"))


def tool(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "f", "parameters": parameters}}]


BRANCH = {
    "type": "object",
    "properties": {"leaf": {"enum": [1, 2]}, "branches": {"type": "array", "maxItems": 1, "items": {"$ref": "#"}}},
    "required": ["leaf", "branches"],
}
NAMED = {"$defs": {"city": {"enum": ["Rome"]}}, "properties": {"to": {"$ref": "#/$defs/city"}}, "required": ["to"]}


def allows(rig: Rig, guide: Guide, text: str) -> bool:
    matcher = rig.engine.matcher(guide)
    assert matcher is not None
    return all(matcher.consume(token) for token in rig.engine.tokenizer.encode(text))


def test_references_in_parameters_mean_the_parameters(tiny: Rig) -> None:
    use = ToolUse("required", parallel=False)
    branch, named = (tool_guide(CallSyntax(), tool(schema), use) for schema in (BRANCH, NAMED))
    assert allows(tiny, branch, '{"name": "f", "arguments": {"leaf": 1, "branches": [{"leaf": 2, "branches": []}]}}')
    assert not allows(tiny, branch, '{"name": "f", "arguments": {"leaf": 1, "branches": [{"name"')
    assert allows(tiny, named, '{"name": "f", "arguments": {"to": "Rome"}}')
    branch, named = (tool_guide(CallSyntax(style="pythonic"), tool(schema), use) for schema in (BRANCH, NAMED))
    assert allows(tiny, branch, 'f(leaf=1, branches=[{"leaf": 2, "branches": []}])')
    assert not allows(tiny, branch, "f(leaf=1, branches=[3")
    assert allows(tiny, named, 'f(to="Rome")')


@pytest.mark.parametrize("parameters", [{}, {"type": "object", "properties": {}}], ids=["none", "empty"])
def test_a_function_without_parameters_gets_none(tiny: Rig, parameters: dict[str, Any]) -> None:
    calls = [written(tiny, tool_guide(CallSyntax(), tool(parameters), ToolUse("required", parallel=False)), 1)]
    assert [json.loads(call) for call in calls] == [{"name": "f", "arguments": {}}]


def test_objects_in_parameters_get_no_invented_properties(tiny: Rig) -> None:
    inner = {"type": "object", "properties": {"street": {"type": "string"}}}
    schema = {"type": "object", "properties": {"to": inner, "all": {"type": "array", "items": {"$ref": "#/$defs/i"}}}}
    tools = tool(schema | {"$defs": {"i": inner}})
    for syntax, call in ((CallSyntax(), '{"name": "f", "arguments": {"%s": '), (CallSyntax(style="pythonic"), "f(%s=")):
        guide = tool_guide(syntax, tools, ToolUse("required", parallel=False))
        for name, opening in (("to", '{"'), ("all", '[{"')):
            assert allows(tiny, guide, call % name + opening + 'street": "x"}')
            assert not allows(tiny, guide, call % name + opening + "s2")


def test_a_tool_with_unknown_keywords_does_not_spoil_the_others(tiny: Rig) -> None:
    odd = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True, "items": {"enum": ["a"]}}}}
    for style in ("json", "pythonic"):
        guide = tool_guide(CallSyntax(style=style), [*tool(odd), *TOOLS], ToolUse("required"))
        assert allows(tiny, guide, '{"name": "now"' if style == "json" else "now()")
        assert not allows(tiny, guide, '{"name": "f", "arguments": {"tags": [2' if style == "json" else "f(tags=[2")


def test_a_strict_tool_that_cannot_be_followed_is_named_without_the_grammar(tiny: Rig) -> None:
    odd = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}}
    wrong = tool({"type": "object", "properties": {"x": {"type": "string", "pattern": "("}}})
    strict = [{"type": "function", "function": {"name": "tag", "strict": True, "parameters": odd}}]
    for tools, name, why in (
        (strict, "tag", "uniqueItems"),
        (wrong, "f", "unclosed group"),
    ):
        prompt = ChatPrompt([{"role": "user", "content": "hi"}], [*TOOLS[1:], *tools])
        request = JobRequest(prompt, tool_use=ToolUse("required"))
        with pytest.raises(BadGrammar) as refused:
            begun = begin_sequence(tiny.engine, tiny.card, request, SequenceKey("k#1"), [])
            tiny.drive(compile_guide(tiny.engine, begun, request, "t"))
        assert f"the tool `{name}`" in refused.value.message and why in refused.value.message
        assert "%json" not in refused.value.message and "\n" not in refused.value.message
        assert refused.value.param == "tools[1].function.parameters"


def test_classes_of_a_pattern_are_ascii(tiny: Rig) -> None:
    for pattern in (r"\d{6}", r"[\d]{6}", r"\w{6}"):
        text = written(tiny, Guide("regex", pattern), 3)
        assert len(text) == 6
        assert text.isascii()
    assert written(tiny, Guide("regex", r"\\d"), 3) == r"\d"


def test_only_a_token_that_was_not_allowed_is_the_engines_fault() -> None:
    guide = Guide("regex", "a", param="guided_regex")
    too_large = given_up("lexer error: too many expressions constructed", guide)
    assert isinstance(too_large, BadGrammar) and too_large.param == "guided_regex"
    for why in ('Parser Error: token "x" doesn\'t satisfy the grammar', INCOMPLETE):
        assert isinstance(given_up(why, guide), EngineError)
