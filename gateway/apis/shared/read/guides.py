"""Turns `response_format` and the guided extras into a worker's `Guide`."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from millstream.common.job import Guide, GuideKind
from millstream.gateway.apis.shared.read.messages import missing
from millstream.gateway.apis.shared.shapes.formats import ResponseFormat
from millstream.gateway.apis.shared.shapes.sampling import SamplingFields
from millstream.gateway.errors.table import FieldError

Given = TypeVar("Given")


def guide(body: SamplingFields, response_format: ResponseFormat | None) -> Guide | None:
    """Returns the one grammar asked for. Raises `BadRequest` for two at once."""
    found = [(name, value) for name, value in _extras(body) if value is not None]
    if response_format is not None and response_format.type != "text":
        found.append(("response_format", format_guide(response_format)))
    if len(found) > 1:
        names = " and ".join(f"'{name}'" for name, _ in found)
        message = f"Only one of {names} may be given: an output follows one grammar."
        raise FieldError(message, param=found[0][0], wire_code="invalid_value")
    return found[0][1] if found else None


def format_guide(response_format: ResponseFormat) -> Guide:
    """Returns the grammar of a response format other than text."""
    if response_format.type == "json_object":
        return Guide("json_object")
    if response_format.json_schema is None:
        raise missing("response_format.json_schema")
    schema = response_format.json_schema.body or {"type": "object"}
    strict = response_format.json_schema.strict is True
    return Guide("json_schema", _json(schema), "response_format.json_schema.schema", strict)


def _extras(body: SamplingFields) -> list[tuple[str, Guide | None]]:
    return [
        ("guided_json", _extra("json_schema", "guided_json", body.guided_json, _schema)),
        ("guided_regex", _extra("regex", "guided_regex", body.guided_regex, str)),
        ("guided_choice", _extra("choice", "guided_choice", body.guided_choice, _json)),
        ("guided_grammar", _extra("grammar", "guided_grammar", body.guided_grammar, str)),
    ]


def _extra(kind: GuideKind, name: str, given: Given | None, written: Callable[[Given], str]) -> Guide | None:
    return None if given is None else Guide(kind, written(given), name)


def _schema(given: dict[str, Any] | str) -> str:
    if not isinstance(given, str):
        return _json(given)
    try:
        schema = json.loads(given)
    except ValueError as error:
        raise _no_schema(f"it is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise _no_schema("it is no JSON object")
    return given


def _no_schema(why: str) -> FieldError:
    message = f"Invalid 'guided_json': expected a JSON schema as an object or as its text, but {why}."
    return FieldError(message, param="guided_json", wire_code="invalid_value")


def _json(value: dict[str, Any] | list[str]) -> str:
    """Returns the schema as JSON. The properties' order is the order of the output, so nothing is sorted."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
