"""The routes: each reads its body, has an order made of it, and says how the answer is written."""

from gateway.routes import chat, completions, embeddings, health, models, requests, rerank, tokens

ROUTERS = (
    chat.router,
    completions.router,
    embeddings.router,
    rerank.router,
    tokens.router,
    models.router,
    requests.router,
    health.router,
)
