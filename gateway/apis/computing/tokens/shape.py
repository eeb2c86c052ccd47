"""The bodies of `POST /tokenize` and `POST /detokenize` (vLLM's shape)."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from millstream.gateway.apis.shared.shapes.base import MESSAGES, Most, Shape, TokenIds
from millstream.gateway.apis.shared.shapes.messages import Message

EXAMPLE: dict[str, Any] = {"model": "smollm2-135m-instruct", "prompt": "Once upon a time"}

IDS: dict[str, Any] = {"model": "smollm2-135m-instruct", "tokens": [6403, 1980]}


class TokenizeRequest(Shape):
    """A text, or messages as the model's template writes them."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    model: str
    prompt: str | None = None
    messages: Annotated[list[Message], Most(MESSAGES)] | None = Field(default=None, min_length=1)
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Shape):
    """Token ids to be turned into text."""

    model_config = ConfigDict(json_schema_extra={"examples": [IDS]})

    model: str
    tokens: TokenIds
