"""Tells which route asks a model for what it can do, and refuses what it cannot."""

from millstream.common.errors import BadRequest
from millstream.worker.engines.base import ModelCard

ROUTES = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "rerank": "/v1/rerank",
    "classify": "/v1/classify",
    "token_classify": "/v1/token_classify",
    "fill_mask": "/v1/fill_mask",
    "transcriptions": "/v1/audio/transcriptions",
    "translations": "/v1/audio/translations",
}
"""The route for each capability of a card."""


def require(card: ModelCard, capability: str) -> None:
    """Raises `BadRequest` for what a model cannot do; it says what it can."""
    if capability not in card.capabilities:
        others = ", ".join(ROUTES[each] for each in card.capabilities if each in ROUTES)
        message = f"The model '{card.name}' does not serve {ROUTES[capability]}, but {others}."
        raise BadRequest(message, param="model")
