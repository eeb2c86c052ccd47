"""Pydantic's findings in OpenAI's words: what was wrong, at which path, what would be right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from millstream.gateway.errors.table import FieldError

S = TypeVar("S", bound=BaseModel)
Detail = Mapping[str, Any]  # one of pydantic's error dicts
EXPECTED = {
    "string_type": "a string",
    "string_unicode": "a string of valid Unicode",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "bool_parsing": "a boolean",
    "int_from_float": "an integer",
    "float_type": "a decimal",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "finite_number": "a finite number",
}


@dataclass(frozen=True, slots=True)
class ValidationFinding:
    """One of pydantic's, at its place in what the client sent."""

    kind: str
    path: tuple[str | int, ...]
    value: object
    context: Mapping[str, Any]
    words: str


def shaped(shape: type[S], body: object) -> S:
    """Returns the body as its shape. Raises `FieldError` for what fits least."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise _deepest([_in_body(detail, body) for detail in details]) from None


def parameter_error(details: Sequence[Detail]) -> FieldError:
    """For what the framework found in a query or a path."""
    return _deepest([_finding(each, tuple(map(str, each["loc"][1:])), each["input"]) for each in details])


def _deepest(findings: Sequence[ValidationFinding]) -> FieldError:
    """The one error to tell: in a union, the branch that was meant got furthest."""
    deepest = max(findings, key=_reached)
    return _told([finding for finding in findings if finding.path == deepest.path], spelt(deepest.path))


def no_body() -> FieldError:
    """There is none."""
    return FieldError("The request needs a JSON object as its body.", param=None, wire_code=None)


def no_json() -> FieldError:
    """Returns the error for a body that cannot be read at all."""
    hint = "(HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON "
    message = f"We could not parse the JSON body of your request. {hint}payload, but what was sent was not valid JSON.)"
    return FieldError(message, param=None, wire_code=None)


def wrong_media(name: str, given: str, expected: str) -> FieldError:
    """Returns the error for a body of another kind than the header `name` may say."""
    message = f"Unsupported {name}: '{given[:80]}'. This API method only accepts {expected} requests."
    return FieldError(message, param=None, wire_code=f"unsupported_{name.lower().replace('-', '_')}")


def spelt(path: Sequence[str | int]) -> str:
    """Writes `("messages", 2, "content")` as `messages[2].content`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _reached(finding: ValidationFinding) -> tuple[int, float]:
    """Returns how far into the body a branch came before it gave up. A list that is too long has been looked at: that
    is farther than one whose first entry is wrong, and less far than one with a wrong entry further on."""
    if finding.kind == "too_long":
        return len(finding.path) + 1, 0.5
    last = finding.path[-1] if finding.path else 0
    return len(finding.path), last if isinstance(last, int) else 0


def _finding(detail: Detail, path: tuple[str | int, ...], value: object) -> ValidationFinding:
    context = cast(Mapping[str, Any], detail.get("ctx") or {})
    return ValidationFinding(detail["type"], path, value, context, detail["msg"])


def _in_body(detail: Detail, body: object) -> ValidationFinding:
    """Pydantic mixes names of union branches into a finding's place; only what leads on in the body stays."""
    place = cast(tuple[str | int, ...], detail["loc"])
    path: list[str | int] = []
    here = body
    for index, part in enumerate(place):
        if isinstance(here, dict) and part in here:
            here = cast(dict[str | int, object], here)[part]
        elif isinstance(here, list) and isinstance(part, int) and part < len(cast(list[object], here)):
            here = cast(list[object], here)[part]
        elif not (detail["type"] == "missing" and index == len(place) - 1):
            continue
        path.append(part)
    return _finding(detail, tuple(path), cast(object, here))


def _told(findings: Sequence[ValidationFinding], param: str) -> FieldError:
    finding = findings[0]
    kinds = [EXPECTED[one.kind] for one in findings if one.kind in EXPECTED]
    if finding.kind == "missing":
        return _missing(param)
    if kinds and len(kinds) == len(findings):
        expected = " or ".join(dict.fromkeys(kinds))
        where = f"for '{param}'" if param else "of the body"
        message = f"Invalid type {where}: expected {expected}, but got {_got(finding.value)} instead."
        return FieldError(message, param=param or None, wire_code="invalid_type")
    return _outside(next(one for one in findings if one.kind not in EXPECTED), param)


def _missing(param: str) -> FieldError:
    return FieldError(f"Missing required parameter: '{param}'.", param=param, wire_code="missing_required_parameter")


def _outside(finding: ValidationFinding, param: str) -> FieldError:
    """Returns the error for a wrong value of the right type."""
    context = finding.context
    number = "decimal" if isinstance(finding.value, float) else "integer"  # a query's numbers are text
    given = _shown(finding.value)
    match finding.kind:
        case "greater_than_equal" | "greater_than":
            least = f">= {context['ge']}" if "ge" in context else f"> {context['gt']}"
            said = f"{number} below minimum value. Expected a value {least}, but got {given} instead."
            return _invalid(param, said, f"{number}_below_min_value")
        case "less_than_equal" | "less_than":
            said = f"{number} above maximum value. Expected a value <= {context.get('le', context.get('lt'))}, "
            return _invalid(param, f"{said}but got {given} instead.", f"{number}_above_max_value")
        case "too_short":
            said = f"array too short. Expected at least {context['min_length']}, but got {context['actual_length']}."
            return _invalid(param, said, "empty_array" if not context["actual_length"] else "array_below_min_length")
        case "too_long":
            entries = context["actual_length"]
            said = f"too long. Expected at most {context['max_length']} entries, but got {entries}."
            return _invalid(param, said, "array_above_max_length")
        case "string_too_long":
            said = f"string too long. Expected a maximum length of {context['max_length']}."
            return _invalid(param, said, "string_above_max_length")
        case "literal_error":
            message = f"Invalid value: {given}. Supported values are: {context['expected']}."
            return FieldError(message, param=param, wire_code="invalid_value")
        case "string_pattern_mismatch":
            said = f"string does not match pattern. Expected a string that matches {context['pattern']}."
            return _invalid(param, said, "invalid_value")
        case _:
            return _invalid(param, f"{finding.words}.", "invalid_value")


def _invalid(param: str, said: str, wire_code: str) -> FieldError:
    return FieldError(f"Invalid '{param}': {said}", param=param, wire_code=wire_code)


def _got(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list() | tuple():
            return "an array"
        case _:
            return "an object"


def _shown(value: object) -> str:
    """Returns a value short enough for a message."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
