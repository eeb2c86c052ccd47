"""The smallest text a guide allows, for an engine that has no model to fill one in."""

import json
from typing import Any, cast

from millstream.common.job import Guide

_DEEPEST = 32  # a schema that nests deeper (or refers to itself) ends in null there
_LARGEST = 100_000  # parts and characters of a value: lists in lists grow with each level's power
_Json = dict[str, Any]


def instance_text(guide: Guide) -> str | None:
    """Returns a text that follows the guide, or None for a kind that needs a grammar engine. Raises `ValueError` for a
    schema whose least value is too large."""
    match guide.kind:
        case "json_object":
            return "{}"
        case "json_schema":
            return json.dumps(SchemaInstance(json.loads(guide.value)).value(), ensure_ascii=False)
        case "choice":
            return str(json.loads(guide.value)[0])
        case "regex" | "grammar":
            return None


class SchemaInstance:
    """A small value valid under a schema: its constant, its first alternative, or the least of its type."""

    def __init__(self, schema: Any) -> None:
        self._root = schema
        self._left = _LARGEST

    def value(self) -> Any:
        """Returns the value. Raises `ValueError` if it would be too large."""
        return self._of(self._root, 0)

    def _of(self, schema: Any, depth: int) -> Any:
        self._take(1)
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return None
        rules = cast(_Json, schema)
        if "$ref" in rules:
            return self._of(_resolve(rules["$ref"], self._root), depth + 1)
        if "const" in rules or rules.get("enum"):
            return rules["const"] if "const" in rules else rules["enum"][0]
        for key in ("anyOf", "oneOf", "allOf"):
            if rules.get(key):
                return self._of(rules[key][0], depth + 1)
        return self._of_type(rules, depth)

    def _of_type(self, rules: _Json, depth: int) -> Any:
        kinds: Any = rules.get("type", "object" if "properties" in rules else "null")
        kind = str(kinds if isinstance(kinds, str) else kinds[0])
        match kind:
            case "object":
                properties = cast(_Json, rules.get("properties", {}))
                return {name: self._of(properties.get(name, {}), depth + 1) for name in rules.get("required", [])}
            case "array":
                return [self._of(rules.get("items", {}), depth + 1) for _ in range(int(rules.get("minItems", 0)))]
            case "string":
                return "x" * self._take(int(rules.get("minLength", 0)))
            case "integer" | "number":
                return rules.get("minimum", 0)
            case "boolean":
                return False
            case _:
                return None

    def _take(self, size: int) -> int:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"the least value of the schema has over {_LARGEST} parts and characters")
        return size


def _resolve(reference: str, root: Any) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part and isinstance(found, dict):
            found = cast(_Json, found).get(part.replace("~1", "/").replace("~0", "~"))
    return found
