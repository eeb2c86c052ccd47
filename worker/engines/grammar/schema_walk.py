"""A JSON schema's parts: where schemas stand in it, and where only values or names do."""

from collections.abc import Callable, Iterator
from typing import Any, cast

Schema = dict[str, Any]

NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}  # names, each with a schema
LISTS = {"anyOf", "oneOf", "allOf", "prefixItems"}
SINGLE = {
    *("items", "additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "not"),
    *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
}


def mapped(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """Returns the schema with each of its schemas changed, the inner ones first. Constants, defaults and examples are
    no schemas, and a property may be called like a keyword."""
    if not isinstance(schema, dict):
        return schema
    return change({key: _mapped_part(key, value, change) for key, value in cast(Schema, schema).items()})


def _mapped_part(key: str, value: Any, change: Callable[[Schema], Schema]) -> Any:
    if key in NAMED and isinstance(value, dict):
        return {name: mapped(each, change) for name, each in cast(Schema, value).items()}
    if key in LISTS | SINGLE and isinstance(value, list):
        return [mapped(each, change) for each in cast(list[Any], value)]
    return mapped(value, change) if key in SINGLE else value


def parts(schema: Schema) -> Iterator[tuple[str, str | int, Any]]:
    """Yields the schemas directly inside: the keyword, the name or number in it (empty for a single one), the
    schema."""
    for key, value in schema.items():
        if key in NAMED and isinstance(value, dict):
            yield from ((key, name, each) for name, each in cast(Schema, value).items())
        elif key in LISTS | SINGLE and isinstance(value, list):
            yield from ((key, number, each) for number, each in enumerate(cast(list[Any], value)))
        elif key in SINGLE:
            yield key, "", value
