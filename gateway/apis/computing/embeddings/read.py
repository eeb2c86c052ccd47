"""Turns `POST /v1/embeddings` into a prepared request: a job per batch, so that several workers can share a long
list."""

from millstream.common.job import EmbedInput, JobRequest
from millstream.gateway.apis.computing.embeddings.shape import EmbeddingRequest
from millstream.gateway.apis.shared.read.inputs import batches, entries
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared


def prepare_embeddings(body: EmbeddingRequest, place: RequestContext) -> PreparedRequest:
    """Returns the jobs of the request. Raises `BadRequest` naming the input at fault."""
    cut = bool(body.truncate)
    jobs = [JobRequest(EmbedInput(batch, body.dimensions, cut)) for batch in batches(entries(body.input))]
    return prepared(place, body, jobs, affinity=body.user or "")
