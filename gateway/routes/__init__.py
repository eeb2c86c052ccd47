"""The routes: each reads its body, has an order made of it, and says how the answer is written."""

from gateway.routes import (
    anthropic,
    batches,
    chat,
    completions,
    embeddings,
    files,
    health,
    models,
    requests,
    rerank,
    responses,
    stored,
    tokens,
    usage,
)

ROUTERS = (
    chat.router,
    stored.router,
    completions.router,
    responses.router,
    anthropic.router,
    embeddings.router,
    rerank.router,
    tokens.router,
    models.router,
    requests.router,
    files.router,
    batches.router,
    usage.router,
    health.router,
)
