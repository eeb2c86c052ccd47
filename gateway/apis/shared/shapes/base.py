"""The base of all request shapes."""

from collections.abc import Sized
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


class Shape(BaseModel):
    """A part of a request body. Strict, as OpenAI is: `"1"` is no number. Fields it does not know are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, frozen=True, protected_namespaces=())


@dataclass(frozen=True, slots=True)
class Most:
    """At most so many entries, counted before any is looked at; of a list's wrong entries only the first is told. A
    body of a million wrong ones is refused as fast as one of two."""

    entries: int

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        if schema["type"] == "list":
            schema["fail_fast"] = True
        if schema["type"] == "list" or schema["type"] == "dict":
            schema["max_length"] = self.entries  # for the documentation
        return core_schema.no_info_before_validator_function(self._count, schema)

    def _count(self, value: Any) -> Any:
        if isinstance(value, list | dict) and len(cast(Sized, value)) > self.entries:
            kind = "List" if isinstance(value, list) else "Dictionary"
            context = {"field_type": kind, "max_length": self.entries, "actual_length": len(cast(Sized, value))}
            raise PydanticKnownError("too_long", context)
        return cast(object, value)


INT32 = 2**31 - 1
INT64 = 2**63 - 1
Count = Annotated[int, Field(ge=1, le=INT32)]
Unit = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Seed = Annotated[int, Field(ge=-INT64 - 1, le=INT64)]
Metadata = Annotated[dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Most(16)]
Stops = Annotated[list[str], Most(64)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenText = Annotated[str, Field(pattern=r"^\d{1,9}$")]
TokenId = Annotated[int, Field(ge=0, le=INT32)]
TokenIds = Annotated[list[TokenId], Most(2**20)]  # beyond the longest context there is

MESSAGES = 16384  # of a conversation; also the items of a turn, and the parts of one message
TOOLS = 1024
TEXTS = 4096  # prompts, choices, pairs: more than one request may make jobs of
INPUTS = 2048  # texts to be embedded or ranked at once, as OpenAI has it
WORDS = 64  # of a fixed vocabulary
