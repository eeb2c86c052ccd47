"""Turns `response_format` and the guided extras into a worker's `Guide`."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from millstream.common.job import Guide, GuideKind
from millstream.gateway.apis.shared.read.messages import missing, unsupported
from millstream.gateway.apis.shared.shapes.formats import ResponseFormat
from millstream.gateway.apis.shared.shapes.sampling import OpenSampling, StructuredOutputs
from millstream.gateway.errors.table import FieldError

Given = TypeVar("Given")


def guide(body: OpenSampling, response_format: ResponseFormat | None) -> Guide | None:
    """Returns the one grammar asked for. Raises `BadRequest` for two at once."""
    found = [(name, value) for name, value in [*_extras(body), *_structured(body)] if value is not None]
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
        if response_format.body is not None:
            return Guide("json_schema", _json(response_format.body), "response_format.schema")
        return Guide("json_object")
    if response_format.json_schema is None:
        raise missing("response_format.json_schema")
    schema = response_format.json_schema.body or {"type": "object"}
    strict = response_format.json_schema.strict is True
    return Guide("json_schema", _json(schema), "response_format.json_schema.schema", strict)


def _structured(body: OpenSampling) -> list[tuple[str, Guide | None]]:
    """Returns what vLLM's `structured_outputs` asks for. Raises `BadRequest` for what it may hold beside, and where it
    asks for nothing."""
    given = body.structured_outputs
    if given is None:
        return []
    foreign = dict(given.model_extra or {}) | {"structural_tag": given.structural_tag}
    for name, value in foreign.items():
        if value not in (None, False):
            raise unsupported(f"structured_outputs.{name}", "use 'json', 'regex', 'choice', 'grammar' or 'json_object'")
    found = _structures(given)
    if all(value is None for _, value in found):
        raise missing("structured_outputs.json")
    return found


def _structures(given: StructuredOutputs) -> list[tuple[str, Guide | None]]:
    path = "structured_outputs"
    free = Guide("json_object", param=f"{path}.json_object") if given.json_object else None
    return [
        (f"{path}.json", _extra("json_schema", f"{path}.json", given.json_body, partial(_schema, path=f"{path}.json"))),
        (f"{path}.regex", _extra("regex", f"{path}.regex", given.regex, str)),
        (f"{path}.choice", _extra("choice", f"{path}.choice", given.choice, _json)),
        (f"{path}.grammar", _extra("grammar", f"{path}.grammar", given.grammar, str)),
        (f"{path}.json_object", free),
    ]


def _extras(body: OpenSampling) -> list[tuple[str, Guide | None]]:
    return [
        ("guided_json", _extra("json_schema", "guided_json", body.guided_json, _schema)),
        ("guided_regex", _extra("regex", "guided_regex", body.guided_regex, str)),
        ("guided_choice", _extra("choice", "guided_choice", body.guided_choice, _json)),
        ("guided_grammar", _extra("grammar", "guided_grammar", body.guided_grammar, str)),
    ]


def _extra(kind: GuideKind, name: str, given: Given | None, written: Callable[[Given], str]) -> Guide | None:
    return None if given is None else Guide(kind, written(given), name)


def _schema(given: dict[str, Any] | str, path: str = "guided_json") -> str:
    if not isinstance(given, str):
        return _json(given)
    try:
        schema = json.loads(given)
    except ValueError as error:
        raise _no_schema(path, f"it is no JSON: {error}") from error
    if not isinstance(schema, dict):
        raise _no_schema(path, "it is no JSON object")
    return given


def _no_schema(path: str, why: str) -> FieldError:
    message = f"Invalid '{path}': expected a JSON schema as an object or as its text, but {why}."
    return FieldError(message, param=path, wire_code="invalid_value")


def _json(value: dict[str, Any] | list[str]) -> str:
    """Returns the schema as JSON. The properties' order is the order of the output, so nothing is sorted."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
