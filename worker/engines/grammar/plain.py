"""Tells which guides are so small and simple that they are compiled without being tried out elsewhere first.

The compiler's work on such a guide is proportional to its length: nothing in it repeats, no expression of the client's
is in it, and what could be nested or chained is bounded by its length, far within the stack of the compiling threads.
"""

import json
from typing import Any, cast

from millstream.common.job import Guide

LONGEST = 16_384  # bytes: some milliseconds to compile
_MOST = 256  # of a length or a number of items
_FARTHEST = 1e6  # of a number's bounds: they become an expression over its digits
_NAMED = {"properties", "$defs", "definitions"}  # their keys are names, their values schemas
_SCHEMAS = {"items", "additionalProperties", "anyOf"}
_VALUES = {
    *("type", "required", "enum", "const", "title", "description", "default", "examples", "$ref", "$schema", "$id"),
    *("strict", "format", "nullable", "deprecated", "readOnly", "writeOnly", "$comment"),
}
_COUNTS = {"minLength", "maxLength", "minItems", "maxItems"}
_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}


def plain(guide: Guide) -> bool:
    """Tells whether the guide is such a one."""
    if len(guide.value) > LONGEST:
        return False
    match guide.kind:
        case "json_object" | "choice":
            return True
        case "json_schema":
            return _plain_schema(guide.value)
        case "regex" | "grammar":
            return False


def _plain_schema(text: str) -> bool:
    try:
        waiting: list[Any] = [json.loads(text)]
    except (ValueError, RecursionError):
        return False
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, bool):
            continue
        if not isinstance(schema, dict):
            return False
        for key, value in cast(dict[str, Any], schema).items():
            if (inner := _inner(key, value)) is None:
                return False
            waiting += inner
    return True


def _inner(key: str, value: Any) -> list[Any] | None:
    """The schemas to look at in turn; None if this keyword is not plain."""
    if key in _VALUES:
        return []
    if key in _COUNTS or key in _BOUNDS:
        most = _MOST if key in _COUNTS else _FARTHEST
        return [] if isinstance(value, int | float) and abs(value) <= most else None
    if key in _NAMED and isinstance(value, dict):
        return list(cast(dict[str, Any], value).values())
    if key in _SCHEMAS:
        return cast(list[Any], value) if isinstance(value, list) else [value]
    return None
