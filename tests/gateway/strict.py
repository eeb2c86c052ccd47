"""The official client's types, taken at their word: no unknown field, none missing, no wrong type."""

import json
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter

T = TypeVar("T", bound=BaseModel)
# Fields beside OpenAI's: open-weights servers', and what the Open Responses specification asks of a response.
OURS = {"reasoning_content", "presence_penalty", "frequency_penalty", "store"}


def strictly(kind: type[T], body: dict[str, Any] | str) -> T:
    """The body as the client's type, after every field at every depth was found in that type."""
    data = json.loads(body) if isinstance(body, str) else body
    parsed = TypeAdapter(kind).validate_python(data)
    _compare(parsed, data, kind.__name__)
    return parsed


def _compare(parsed: object, data: object, path: str) -> None:
    if isinstance(parsed, BaseModel):
        assert isinstance(data, dict), f"{path}: {data!r}"
        names = {field.alias or name: name for name, field in type(parsed).model_fields.items()}
        unknown = set(data) - set(names) - OURS
        assert not unknown, f"{path} has unknown fields {unknown}"
        for alias, name in names.items():
            required = type(parsed).model_fields[name].is_required()
            assert alias in data or not required, f"{path}.{alias} is missing"
            if alias in data:
                _typed(
                    getattr(parsed, name), data[alias], type(parsed).model_fields[name].annotation, f"{path}.{alias}"
                )
    elif isinstance(parsed, list):
        assert isinstance(data, list) and len(parsed) == len(data), path
        for index, (one, raw) in enumerate(zip(parsed, data, strict=True)):
            _compare(one, raw, f"{path}[{index}]")


def _typed(value: object, data: object, annotation: Any, path: str) -> None:
    if data is None:
        union = get_origin(annotation) in (Union, UnionType)
        assert union and type(None) in get_args(annotation), f"{path} must not be null"
    _compare(value, data, path)
