"""Brings a JSON schema into the words that the grammar compiler knows.

JSON Schema says that an unknown `format` asserts nothing, so it is left out always, and so is the name of a dialect
that nobody here has read. What else the compiler does not know is left out unless the client asked for `strict`:
keywords by the compiler itself (its option `lenient`), patterns that no finite automaton can follow and bounds beyond
its numbers here.
"""

import json
import re
from typing import Any, cast

from millstream.worker.engines.grammar.schema_walk import Schema, mapped

FORMATS = frozenset(  # those the compiler knows
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
)
_TIME = (
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,9})?"
    r"(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_DATE = (
    r"[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|[12][0-9]))"
)
# RFC 3339 bounds the fraction of a second by nothing, and a small model may never end it. Nine digits are nanoseconds.
_BOUNDED = {"date-time": f"^{_DATE}[tT]{_TIME}$", "time": f"^{_TIME}$"}
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_METASCHEMA = re.compile(r"https?://json-schema\.org/")
# A pattern's pieces of which one can make it unreadable: an escape, a class in brackets, looking around.
_PIECES = re.compile(r"\\(?P<escape>.)|\[\^?(?:\\.|[^\]\\])*\]|(?P<looks>\(\?<?[=!])", re.DOTALL)
_UNREADABLE = "bBk123456789"  # word boundaries and references back


def readable(schema: Any, *, strict: bool) -> Any:
    """Returns the schema without what the compiler would refuse, as far as that may be left out."""
    return mapped(schema, _known if strict else _lenient)


def readable_text(text: str, *, strict: bool) -> str:
    """Returns the same for a schema as JSON text. Raises ValueError for what is no JSON."""
    return json.dumps(readable(json.loads(text), strict=strict), ensure_ascii=False)


def _known(schema: Schema) -> Schema:
    """Says the same in words that the compiler knows."""
    known = {key: value for key, value in schema.items() if key != "format" or str(value) in FORMATS}
    if (bounded := _BOUNDED.get(str(known.get("format")))) is not None:
        del known["format"]
        known["allOf"] = [*known.get("allOf", ()), {"pattern": bounded}]
    if isinstance(meta := known.get("$schema"), str) and not _METASCHEMA.match(meta):
        del known["$schema"]
    for key in _COUNTS:
        if isinstance(known.get(key), float) and known[key].is_integer():
            known[key] = int(known[key])  # 2.0 is 2 in JSON
    return _with_names(known) if isinstance(known.get("propertyNames"), dict) else known


def _with_names(schema: Schema) -> Schema:
    """Says by the properties themselves what `propertyNames` says, where it is all that is said of names."""
    rest = {key: value for key, value in schema.items() if key != "propertyNames"}
    if not schema["propertyNames"].keys() - {"type"}:
        return rest  # every name is a string
    if rest.keys() & {"properties", "patternProperties", "unevaluatedProperties"}:
        return schema
    value = rest.get("additionalProperties", True)
    match schema["propertyNames"]:
        case {"enum": [*_], **others} if not others.keys() - {"type"}:
            listed: list[Any] = schema["propertyNames"]["enum"]
            names = [name for name in listed if isinstance(name, str)]
            return rest | {"properties": dict.fromkeys(names, value), "additionalProperties": False}
        case {"pattern": str(pattern), **others} if not others.keys() - {"type"}:
            return rest | {"patternProperties": {pattern: value}, "additionalProperties": False}
        case _:
            return schema


def _lenient(schema: Schema) -> Schema:
    known = _known(schema)
    if isinstance(pattern := known.get("pattern"), str) and not _is_regular(pattern):
        del known["pattern"]
    if isinstance(known.get("patternProperties"), dict):
        patterns = cast(Schema, known["patternProperties"])
        irregular = [name for name in patterns if not _is_regular(name)]
        known["patternProperties"] = {name: each for name, each in patterns.items() if name not in irregular}
        if irregular and known.get("additionalProperties") is False:
            del known["additionalProperties"]
    return {key: value for key, value in known.items() if key not in _BOUNDS or "e" not in repr(value)}


def _is_regular(pattern: str) -> bool:
    """Tells whether an automaton can follow it; a mistake in it is not looked for."""
    pieces = _PIECES.finditer(pattern)
    return not any(piece["looks"] or (piece["escape"] or " ") in _UNREADABLE for piece in pieces)
