"""The bodies of `POST /v1/classify` (vLLM's shape), `POST /v1/token_classify` and `POST /v1/fill_mask`."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from millstream.gateway.apis.shared.shapes.base import INPUTS, Most, Shape, TokenIds

EXAMPLE: dict[str, Any] = {"model": "small-classifier", "input": ["The mill turns.", "The mill stands still."]}
TOKENS: dict[str, Any] = {"model": "small-tagger", "input": "Ada works in London."}
GAPS: dict[str, Any] = {"model": "small-encoder", "input": "The [MASK] turns.", "top_k": 3}

Texts = str | Annotated[list[str], Most(INPUTS)]


class ClassifyRequest(Shape):
    """Texts or tokens whose class is asked for. `truncate`: cut what is too long instead of refusing it."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    model: str
    input: Texts | TokenIds | Annotated[list[TokenIds], Most(INPUTS)]
    user: str | None = None
    truncate: bool | None = None


class TokenClassifyRequest(Shape):
    """Texts of which each token's class is asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [TOKENS]})

    model: str
    input: Texts
    user: str | None = None
    truncate: bool | None = None


class FillMaskRequest(Shape):
    """Texts with gaps, each marked with the model's own mask token; `top_k`: tokens to be told for each gap."""

    model_config = ConfigDict(json_schema_extra={"examples": [GAPS]})

    model: str
    input: Texts
    top_k: int = Field(default=5, ge=1, le=100)
    user: str | None = None
