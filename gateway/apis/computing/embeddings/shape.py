"""The body of `POST /v1/embeddings`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from millstream.gateway.apis.shared.shapes.base import INPUTS, Most, Shape, TokenIds

EXAMPLE: dict[str, Any] = {"model": "all-minilm-l6-v2", "input": ["a mill", "a stream"]}


class EmbeddingRequest(Shape):
    """Texts or tokens to be turned into vectors. `truncate`: cut what is too long instead of refusing it."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    model: str
    input: str | Annotated[list[str], Most(INPUTS)] | TokenIds | Annotated[list[TokenIds], Most(INPUTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1, le=65536)
    user: str | None = None
    truncate: bool | None = None
