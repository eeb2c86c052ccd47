"""The smallest text a guide allows, for an engine that has no model to fill one in."""

import json
from typing import Any, cast

from millstream.common.job import Guide

_DEEPEST = 32  # a schema that nests deeper (or refers to itself) ends in null there
_Json = dict[str, Any]


def instance_text(guide: Guide) -> str | None:
    """Returns a text that follows the guide, or None for a kind that needs a grammar engine."""
    match guide.kind:
        case "json_object":
            return "{}"
        case "json_schema":
            schema = json.loads(guide.value)
            return json.dumps(instance(schema, schema, 0), ensure_ascii=False)
        case "choice":
            return str(json.loads(guide.value)[0])
        case "regex" | "grammar":
            return None


def instance(schema: Any, root: Any, depth: int) -> Any:
    """Returns a small value valid under the schema: its constant, first alternative, or the least of its type."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    rules = cast(_Json, schema)
    if "$ref" in rules:
        return instance(_resolve(rules["$ref"], root), root, depth + 1)
    if "const" in rules or rules.get("enum"):
        return rules["const"] if "const" in rules else rules["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if rules.get(key):
            return instance(rules[key][0], root, depth + 1)
    return _of_type(rules, root, depth)


def _of_type(rules: _Json, root: Any, depth: int) -> Any:
    kinds: Any = rules.get("type", "object" if "properties" in rules else "null")
    kind = str(kinds if isinstance(kinds, str) else kinds[0])
    match kind:
        case "object":
            properties = cast(_Json, rules.get("properties", {}))
            return {name: instance(properties.get(name, {}), root, depth + 1) for name in rules.get("required", [])}
        case "array":
            return [instance(rules.get("items", {}), root, depth + 1) for _ in range(rules.get("minItems", 0))]
        case "string":
            return "x" * int(rules.get("minLength", 0))
        case "integer" | "number":
            return rules.get("minimum", 0)
        case "boolean":
            return False
        case _:
            return None


def _resolve(reference: str, root: Any) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part and isinstance(found, dict):
            found = cast(_Json, found).get(part.replace("~1", "/").replace("~0", "~"))
    return found
