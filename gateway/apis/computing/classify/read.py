"""Turns the bodies into prepared requests: a job per batch, so that several workers can share a long list."""

from millstream.common.job import ClassifyInput, FillInput, JobRequest, WorkInput
from millstream.gateway.apis.computing.classify.shape import ClassifyRequest, FillMaskRequest, TokenClassifyRequest
from millstream.gateway.apis.shared.read.inputs import batches, entries
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared

MOST_TOKEN_INPUTS = 16  # of a job: every token of theirs is told with every class


def prepare_classify(body: ClassifyRequest, place: RequestContext) -> PreparedRequest:
    """Returns the jobs of the request. Raises `BadRequest` naming the input at fault."""
    cut = bool(body.truncate)
    return _prepared(body, place, [ClassifyInput(batch, truncate=cut) for batch in batches(entries(body.input))])


def prepare_token_classify(body: TokenClassifyRequest, place: RequestContext) -> PreparedRequest:
    """Returns the jobs of the request. Raises `BadRequest` naming the input at fault."""
    cut = bool(body.truncate)
    shared = batches(entries(body.input), MOST_TOKEN_INPUTS)
    return _prepared(body, place, [ClassifyInput(batch, each_token=True, truncate=cut) for batch in shared])


def prepare_fill_mask(body: FillMaskRequest, place: RequestContext) -> PreparedRequest:
    """Returns the jobs of the request. Raises `BadRequest` naming the input at fault."""
    texts = [[str(entry) for entry in batch] for batch in batches(entries(body.input))]
    return _prepared(body, place, [FillInput(batch, body.top_k) for batch in texts])


def _prepared(
    body: ClassifyRequest | TokenClassifyRequest | FillMaskRequest, place: RequestContext, work: list[WorkInput]
) -> PreparedRequest:
    return prepared(place, body, [JobRequest(each) for each in work], affinity=body.user or "")
