"""Values of tool calls that are written without their types: a parameter's schema tells what they are."""

import ast
import json
from collections.abc import Iterator
from typing import Any, cast

TEXT, ANYTHING = {"type": "string"}, {"type": "any"}  # what a value's own tag may tell
_NAMES: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


def is_text(schema: Any) -> bool:
    """Tells whether a value is text whatever it looks like; so is that of a parameter without a schema."""
    return set(_types(schema)) <= {"string"}


def json_of(written: str, schema: Any) -> str:
    """Returns, as JSON, the value of one of the schema's types that is written so, else the text itself. Python's
    spelling of literals, which models mix in, is read too."""
    allowed, bare = set(_types(schema)), written.strip()
    for read in (_json, _python):
        try:
            value, told = read(bare)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if _fits(value, allowed):
            return told
    return json.dumps(written, ensure_ascii=False)


def _json(written: str) -> tuple[Any, str]:
    return json.loads(written, parse_constant=_no_number), written


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _python(written: str) -> tuple[Any, str]:
    value = ast.literal_eval(written)
    return value, json.dumps(value, allow_nan=False)


def _fits(value: Any, allowed: set[str]) -> bool:
    name = _name(value)
    if name is None or (name == "string" and "string" in allowed):  # else quotes could not be part of a text
        return False
    return bool(allowed & {name, "any"}) or (name == "integer" and "number" in allowed)


def _name(value: Any) -> str | None:
    return _NAMES.get(value.__class__)


def _types(schema: Any) -> Iterator[str]:
    """Yields the types that a schema allows; `any` where it refers to another or tells none."""
    if not isinstance(schema, dict):
        return
    told = cast(dict[str, Any], schema)
    if isinstance(kind := told.get("type"), str | list):
        yield from [kind] if isinstance(kind, str) else map(str, cast(list[Any], kind))
    elif alternatives := told.get("anyOf") or told.get("oneOf"):
        for each in cast(list[Any], alternatives):
            yield from _types(each)
    elif "enum" in told or "const" in told:
        yield from {_name(each) or "any" for each in told.get("enum", [told.get("const")])}
    elif "$ref" in told or "allOf" in told or "properties" in told:
        yield "any"
