"""The bodies of `POST /v1/rerank` (Jina's and Cohere's shape) and `POST /v1/score` (vLLM's)."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from millstream.gateway.apis.shared.shapes.base import INPUTS, Count, Most, Shape

EXAMPLE: dict[str, Any] = {"model": "all-minilm-l6-v2", "query": "water power", "documents": ["a mill", "a kite"]}

PAIRS: dict[str, Any] = {"model": "all-minilm-l6-v2", "text_1": "water power", "text_2": ["a mill", "a kite"]}

ScoredTexts = Annotated[list[str], Most(INPUTS)]


class Document(Shape):
    """A document given as an object."""

    text: str


class RerankRequest(Shape):
    """Documents to be ordered by how well they answer the query."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    model: str
    query: str
    documents: Annotated[list[str | Document], Most(INPUTS)] = Field(min_length=1)
    top_n: Count | None = None
    return_documents: bool | None = None


class ScoreRequest(Shape):
    """Pairs of texts to be scored: one with one or many, or two lists side by side."""

    model_config = ConfigDict(json_schema_extra={"examples": [PAIRS]})

    model: str
    text_1: str | ScoredTexts
    text_2: str | ScoredTexts
