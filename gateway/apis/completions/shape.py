"""The body of `POST /v1/completions`."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from millstream.gateway.apis.chat.shape import ServiceTier
from millstream.gateway.apis.shared.shapes.base import TEXTS, Most, TokenIds
from millstream.gateway.apis.shared.shapes.formats import ResponseFormat
from millstream.gateway.apis.shared.shapes.sampling import SamplingFields

Prompts = Annotated[list[str], Most(TEXTS)]
EXAMPLE: dict[str, Any] = {"model": "smollm2-135m-instruct", "prompt": "Once upon a time", "max_tokens": 32}


class CompletionRequest(SamplingFields):
    """Text or tokens to go on from: one prompt, or a list of them."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    prompt: str | Prompts | TokenIds | Annotated[list[TokenIds], Most(TEXTS)] | None = None
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)
    best_of: int | None = Field(default=None, ge=1, le=128)
    response_format: ResponseFormat | None = None
    service_tier: ServiceTier | None = None
    prompt_cache_key: str | None = None
