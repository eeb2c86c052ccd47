"""Turns `POST /v1/rerank` and `POST /v1/score` into prepared requests."""

from millstream.common.errors import BadRequest
from millstream.common.job import JobRequest, RerankInput
from millstream.gateway.apis.computing.rerank.shape import RerankRequest, ScoreRequest
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared


def prepare_rerank(body: RerankRequest, place: RequestContext) -> PreparedRequest:
    """Returns one job: the query against all documents."""
    return prepared(place, body, [JobRequest(RerankInput(body.query, texts(body)))])


def texts(body: RerankRequest) -> list[str]:
    """Returns the documents' texts."""
    return [entry if isinstance(entry, str) else entry.text for entry in body.documents]


def prepare_score(body: ScoreRequest, place: RequestContext) -> PreparedRequest:
    """Returns one job for one text against many; a job per pair for two lists. Raises `BadRequest` for unequal
    lists."""
    others = [body.text_2] if isinstance(body.text_2, str) else body.text_2
    if not others:
        raise BadRequest("Invalid 'text_2': empty array. Expected at least one text.", param="text_2")
    if isinstance(body.text_1, str):
        return prepared(place, body, [JobRequest(RerankInput(body.text_1, others))])
    if len(body.text_1) != len(others):
        message = f"'text_1' ({len(body.text_1)} texts) and 'text_2' ({len(others)}) must be of equal length."
        raise BadRequest(message, param="text_2")
    pairs = zip(body.text_1, others, strict=True)
    return prepared(place, body, [JobRequest(RerankInput(one, [other])) for one, other in pairs])
