"""Every API this gateway speaks. A new one is a folder beside these and a line here."""

from millstream.gateway.apis.admin import models, requests, usage
from millstream.gateway.apis.admin.arena import route as arena
from millstream.gateway.apis.admin.cluster import route as cluster
from millstream.gateway.apis.admin.jobs import route as jobs
from millstream.gateway.apis.admin.jobs import stream
from millstream.gateway.apis.admin.keys import route as keys
from millstream.gateway.apis.anthropic import route as anthropic
from millstream.gateway.apis.audio import route as audio
from millstream.gateway.apis.batches import route as batches
from millstream.gateway.apis.chat import route as chat
from millstream.gateway.apis.chat import stored_route as stored
from millstream.gateway.apis.completions import route as completions
from millstream.gateway.apis.computing.classify import route as classify
from millstream.gateway.apis.computing.embeddings import route as embeddings
from millstream.gateway.apis.computing.rerank import route as rerank
from millstream.gateway.apis.computing.tokens import route as tokens
from millstream.gateway.apis.endpoint import OPENAI, Api
from millstream.gateway.apis.files import route as files
from millstream.gateway.apis.ollama import route as ollama
from millstream.gateway.apis.responses import route as responses
from millstream.gateway.apis.responses.conversations import compact_route as compact
from millstream.gateway.apis.responses.conversations import route as conversations

APIS = (
    chat.API,
    Api(stored.router),
    completions.API,
    responses.API,
    compact.API,
    Api(conversations.router),
    anthropic.API,
    ollama.API,
    embeddings.API,
    rerank.API,
    classify.API,
    tokens.API,
    Api(audio.router),
    Api(models.router),
    Api(requests.router),
    Api(files.router),
    Api(batches.router),
    Api(usage.router),
    Api(cluster.router),
    Api(jobs.router),
    Api(keys.router),
    Api(stream.router),
    Api(arena.router),
)
ENDPOINTS = {endpoint.path: endpoint for api in APIS for endpoint in api.endpoints}
DIALECTS = tuple(api.dialect for api in APIS if api.dialect is not OPENAI)
