"""Guides above the limits are refused before anything compiles them, whatever they look like."""

import json
from dataclasses import replace
from typing import Any

import pytest

from millstream.common.errors import BadGrammar
from millstream.common.job import Guide
from millstream.worker.engines.grammar.limits import check, check_parameters
from millstream.worker.engines.grammar.plain import LONGEST, plain
from millstream.worker.engines.guide_limits import GuideLimits
from tests.worker.engines.grammar.guides_of_every_size import (
    chain_of_references,
    chain_of_rules,
    choices,
    properties,
    schema,
)

NESTED = {"type": "object", "properties": {"a": {"type": "array", "items": {"enum": ["x", "y"]}}}}
EMBEDDED = Guide("grammar", f'start: "a:b" /c:d/ %json {json.dumps(NESTED)} // e:f\n', "guided_grammar")


@pytest.mark.parametrize(
    ("limit", "guide", "found"),
    [
        ("bytes", Guide("regex", "ä" * 10), 20),
        ("rules", chain_of_rules(10), 12),
        ("rules", chain_of_references(10), 22),  # eleven definitions, as many references
        ("properties", properties(10), 10),
        ("properties", EMBEDDED, 1),
        ("rules", EMBEDDED, 1),
        ("strings", choices(10), 10),
        ("strings", schema({"anyOf": [{"enum": ["a", "b"]}, {"enum": ["c"]}]}), 3),
        ("strings", Guide("grammar", 'start: "a" | "b:" | "\\""'), 3),
        ("regex", Guide("regex", "a" * 10), 10),
        ("regex", schema({"type": "string", "pattern": "a" * 10}), 10),
        ("regex", schema({"patternProperties": {"a" * 10: {}}}), 10),
        ("regex", Guide("grammar", "start: /aaaaaaaa/"), 10),
        ("depth", schema(NESTED), 5),
        ("depth", EMBEDDED, 5),
        ("depth", Guide("json_schema", "[" * 100_000), 100_000),  # deeper than Python itself reads
        ("depth", Guide("grammar", "start: %json " + "[" * 100_000), 100_000),
    ],
    ids=str,
)
def test_what_is_counted_is_what_is_refused(limit: str, guide: Guide, found: int) -> None:
    wide = GuideLimits(*[10**9] * 6)
    if found > 1:
        with pytest.raises(BadGrammar, match=rf"{found} .*at most {found - 1} .*`guide_{limit}`") as refused:
            check(guide, replace(wide, **{limit: found - 1}))
        assert refused.value.param == guide.param
    check(guide, replace(wide, **{limit: found}))


def test_a_tool_is_named() -> None:
    function = {"name": "book", "parameters": NESTED}
    check_parameters(function, 3, GuideLimits())
    with pytest.raises(BadGrammar, match=r"of the tool `book` .* 5 levels deep") as refused:
        check_parameters(function, 3, GuideLimits(depth=4))
    assert refused.value.param == "tools[3].function.parameters"


def test_what_is_no_json_is_left_to_the_compiler() -> None:
    check(Guide("json_schema", "{nope"), GuideLimits())
    check(Guide("choice", "7"), GuideLimits())
    check(Guide("grammar", "start: %json {nope"), GuideLimits())


@pytest.mark.parametrize(
    ("value", "is_plain"),
    [
        (NESTED, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string", "maxLength": 9}}}, True),
        ({"properties": {"pattern": {"type": "string"}}}, True),  # a name, not the keyword
        ({"anyOf": [{"type": "null"}, {"type": "number", "minimum": 0}], "title": "x"}, True),
        ({"type": "string", "pattern": "a"}, False),
        ({"items": {"allOf": [{}]}}, False),
        ({"type": "array", "maxItems": 100_000}, False),
        ({"minimum": 1e300}, False),
        ({"additionalProperties": {"not": {}}}, False),
        ({"items": [{"oneOf": [{}]}]}, False),
        ({"title": "x" * LONGEST}, False),
    ],
    ids=str,
)
def test_only_what_repeats_nothing_is_plain(value: dict[str, Any], is_plain: bool) -> None:
    assert plain(schema(value)) is is_plain


def test_of_the_other_kinds_only_fixed_strings_are_plain() -> None:
    assert plain(Guide("json_object")) and plain(choices(9))
    assert not plain(choices(9999)) and not plain(Guide("regex", "a")) and not plain(chain_of_rules(1))
