"""The routes: each reads its body, has a prepared request made of it, and says how the answer is written."""

from millstream.gateway.apis.admin import models, requests, usage
from millstream.gateway.apis.anthropic import route as anthropic
from millstream.gateway.apis.batches import route as batches
from millstream.gateway.apis.chat import route as chat
from millstream.gateway.apis.chat import stored_route as stored
from millstream.gateway.apis.completions import route as completions
from millstream.gateway.apis.embeddings import route as embeddings
from millstream.gateway.apis.files import route as files
from millstream.gateway.apis.rerank import route as rerank
from millstream.gateway.apis.responses import route as responses
from millstream.gateway.apis.tokens import route as tokens
from millstream.gateway.http import health

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
