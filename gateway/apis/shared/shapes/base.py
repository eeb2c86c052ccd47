"""What all request shapes have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """A part of a request body. Strict, as OpenAI is: `"1"` is no number. Fields it does not know are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, frozen=True, protected_namespaces=())


INT32 = 2**31 - 1
INT64 = 2**63 - 1
Count = Annotated[int, Field(ge=1, le=INT32)]
Unit = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Temperature = Annotated[float, Field(ge=0, le=2)]
Seed = Annotated[int, Field(ge=-INT64 - 1, le=INT64)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
Stops = Annotated[list[str], Field(max_length=64)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenText = Annotated[str, Field(pattern=r"^\d{1,9}$")]
TokenId = Annotated[int, Field(ge=0, le=INT32)]
