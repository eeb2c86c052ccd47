"""The objects of a forced call's parameters: each names its properties, and admits no others."""

from typing import Any

import pytest

from millstream.worker.engines.grammar.closing import closed


def thing(**more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"type": "string"}}} | more


SHUT = thing(additionalProperties=False)
OPEN = thing()
FREE = {"type": "object"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (thing(), SHUT),
        ({"properties": {"x": OPEN}}, {"properties": {"x": SHUT}, "additionalProperties": False}),
        ({"items": OPEN}, {"items": SHUT}),
        ({"prefixItems": [OPEN, FREE]}, {"prefixItems": [SHUT, FREE]}),
        ({"$defs": {"d": OPEN}, "$ref": "#/$defs/d"}, {"$defs": {"d": SHUT}, "$ref": "#/$defs/d"}),
        ({"anyOf": [OPEN, {"type": "null"}]}, {"anyOf": [SHUT, {"type": "null"}]}),
        ({"allOf": [OPEN], "default": {}}, {"allOf": [SHUT], "default": {}}),
        ({"properties": {"properties": OPEN}}, {"properties": {"properties": SHUT}, "additionalProperties": False}),
        ({"enum": [OPEN], "default": OPEN}, {"enum": [OPEN], "default": OPEN}),  # values, no schemas
    ],
    ids=str,
)
def test_an_object_that_names_its_properties_is_closed_at_any_depth(
    schema: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert closed(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        FREE,
        thing(additionalProperties=True),
        thing(additionalProperties={"type": "integer"}),
        thing(patternProperties={"^x": {}}),
        {"allOf": [OPEN, {"properties": {"b": {}}}]},
        thing(anyOf=[{"properties": {"b": {}}}, {"properties": {"c": {}}}]),
        thing(**{"if": {"properties": {"b": {}}}, "then": {"properties": {"c": {}}}}),
        {"allOf": [{"$ref": "#/$defs/d"}, {"properties": {"b": {}}}], "$defs": {"d": OPEN}},
        {"allOf": [{"$ref": "#/$defs/e"}, OPEN], "$defs": {"e": {"$ref": "#/$defs/d"}, "d": OPEN}},
        {"$ref": "#/$defs/d", "properties": {"b": {}}, "$defs": {"d": OPEN}},
        {"unevaluatedProperties": False, "allOf": [OPEN, OPEN]},
    ],
    ids=str,
)
def test_an_object_stays_open_that_says_so_or_that_others_describe_too(schema: dict[str, Any]) -> None:
    before = str(schema)
    assert closed(schema) == schema and str(schema) == before


def test_a_schema_that_refers_to_itself_is_closed_once() -> None:
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}
    assert closed(tree) == tree | {"additionalProperties": False}
