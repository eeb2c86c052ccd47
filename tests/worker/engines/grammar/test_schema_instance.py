"""The values that the simulated engine answers with: valid under their schema, small, and never without bound."""

import json
from typing import Any

import jsonschema
import pytest

from millstream.common.job import Guide
from millstream.worker.engines.grammar.schema_instance import SchemaInstance, instance_text

POINT = {
    "type": "object",
    "properties": {"x": {"type": "number", "minimum": 3}, "note": {"type": "string", "minLength": 4}},
    "required": ["x", "note"],
}
VALID: list[Any] = [
    POINT,
    {"type": "array", "items": POINT, "minItems": 3},
    {"type": ["string", "null"]},
    {"type": "boolean"},
    {"type": "null"},
    {"type": "integer"},
    {"const": {"a": 1}},
    {"enum": ["b", "c"]},
    {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    {"properties": {"a": {}}, "required": ["a"]},
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": POINT}},
]


@pytest.mark.parametrize("schema", VALID, ids=json.dumps)
def test_it_is_valid(schema: Any) -> None:
    jsonschema.validate(SchemaInstance(schema).value(), schema)


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    text = json.dumps(SchemaInstance(schema).value())
    assert text.count("next") == 17 and text.endswith("null" + "}" * 17)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 10**12},
        {"type": "array", "minItems": 10**12},
        {"type": "array", "minItems": 1000, "items": {"type": "array", "minItems": 1000}},
        {"type": "object", "required": ["a", "b"], "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}},
    ],
    ids=json.dumps,
)
def test_one_that_is_too_large_is_refused(schema: Any) -> None:
    with pytest.raises(ValueError, match=r"over 100000 parts and characters"):
        SchemaInstance(schema).value()


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("json_object", "", "{}"),
        ("choice", '["yes", "no"]', "yes"),
        ("json_schema", '{"const": "é"}', '"é"'),
        ("regex", "a+", None),
        ("grammar", "root ::= 'a'", None),
    ],
)
def test_guides(kind: Any, value: str, text: str | None) -> None:
    assert instance_text(Guide(kind, value)) == text
