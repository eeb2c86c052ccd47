"""Closes a schema's objects: one that names its properties admits no others, unless it says something about that."""

from collections.abc import Iterator
from typing import Any, cast

from millstream.worker.engines.grammar.schema_walk import Schema, parts

# Says more of an object than its own properties; what else there may be is then for the schema to say.
_DESCRIBES = {
    *("$ref", "$dynamicRef", "additionalProperties", "allOf", "anyOf", "dependentSchemas", "if", "oneOf"),
    *("patternProperties", "properties", "unevaluatedProperties"),
}
_DEFINITIONS = ("$defs", "definitions")
_ALTERNATIVES = ("anyOf", "oneOf")
_OF_ITS_OWN = {"properties", "items", "prefixItems", "additionalItems", "additionalProperties", *_DEFINITIONS}


def closed(schema: Schema) -> Schema:
    """Returns the schema with its objects closed, at any depth. An object that several schemas describe together stays
    open, whether they stand beside each other or one refers to another: each of them names only some of its
    properties."""
    return _closed(schema, False, frozenset(_shared_references(schema)))


def _closed(schema: Any, shared: bool, open_: frozenset[str]) -> Any:
    if not isinstance(schema, dict) or shared:
        return cast(Any, schema)
    given = cast(Schema, schema)
    result: Schema = dict(given)
    for key, name, part in parts(given):
        inner = _closed(part, _is_shared(given, key, open_, name), open_)
        if name == "":
            result[key] = inner
        else:
            if result[key] is given[key]:
                result[key] = given[key].copy()
            result[key][name] = inner
    if "properties" in given and not (_DESCRIBES - {"properties"}) & given.keys():
        result["additionalProperties"] = False
    return result


def _is_shared(schema: Schema, key: str, open_: frozenset[str] = frozenset(), name: str | int = "") -> bool:
    """Tells whether the part under `key` describes an object that others describe too."""
    alone = not (_DESCRIBES - {key}) & schema.keys()
    if key in _DEFINITIONS:
        return bool(open_ & {_reference(key, name), "*"})
    if key in _ALTERNATIVES or key == "$ref":
        return not alone
    if key == "allOf":
        return not alone or len(schema["allOf"]) > 1
    return key not in _OF_ITS_OWN


def _reference(key: str, name: str | int) -> str:
    return f"#/{key}/{str(name).replace('~', '~0').replace('/', '~1')}"


def _shared_references(schema: Schema) -> Iterator[str]:
    """Yields the references to definitions that describe an object together with other schemas; `*` for one that goes
    elsewhere, after which nothing is known of any."""
    waiting: list[tuple[Any, bool]] = [(schema, False)]
    followed: set[str] = set()
    while waiting:
        node, shared = waiting.pop()
        if not isinstance(node, dict):
            continue
        here = cast(Schema, node)
        reference = here.get("$ref")
        if isinstance(reference, str) and (shared or _is_shared(here, "$ref")) and reference not in followed:
            followed.add(reference)
            target = _target(schema, reference)
            yield reference if target is not None else "*"
            waiting.append((target, True))
        waiting += [(part, shared or _is_shared(here, key)) for key, _, part in parts(here)]


def _target(schema: Schema, reference: str) -> Any:
    for key in _DEFINITIONS:
        for name, each in schema.get(key, {}).items():
            if _reference(key, name) == reference:
                return each
    return None
