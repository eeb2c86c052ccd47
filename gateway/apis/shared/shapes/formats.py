"""`response_format`: free text, any JSON object, or JSON that follows a schema."""

from typing import Any, Literal

from pydantic import Field

from millstream.gateway.apis.shared.shapes.base import Shape


class JsonSchema(Shape):
    """A named JSON schema; unless `strict`, what no grammar can follow of it is left out."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    # "schema" is a method of pydantic's models
    body: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Shape):
    """The form that the output must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    body: dict[str, Any] | None = Field(default=None, alias="schema")  # llama.cpp's, beside `json_object`
