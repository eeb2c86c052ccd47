"""Turns `POST /v1/embeddings` into a prepared request: a job per batch, so that several workers can share a long
list."""

from millstream.common.errors import BadRequest
from millstream.common.job import EmbedInput, JobRequest
from millstream.gateway.apis.embeddings.shape import EmbeddingRequest
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared

BATCH = 128  # inputs per job: enough to fill an engine, few enough for a chunk of moderate size
MOST_INPUTS = 2048  # OpenAI's limit


def prepare_embeddings(body: EmbeddingRequest, place: RequestContext) -> PreparedRequest:
    """Returns the jobs of the request. Raises `BadRequest` naming the input at fault."""
    given = inputs(body)
    if len(given) > MOST_INPUTS:
        message = f"Invalid 'input': {len(given)} entries. At most {MOST_INPUTS} are embedded at once."
        raise BadRequest(message, param="input")
    cut = bool(body.truncate)
    batches = (given[at : at + BATCH] for at in range(0, len(given), BATCH))
    jobs = [JobRequest(EmbedInput(batch, body.dimensions, cut)) for batch in batches]
    return prepared(place, body, jobs, affinity=body.user or "")


def inputs(body: EmbeddingRequest) -> list[str | list[int]]:
    """Returns one input per vector: a text or token ids."""
    match body.input:
        case str(text):
            given: list[str | list[int]] = [text]
        case []:
            raise BadRequest("Invalid 'input': empty array. Expected at least one input.", param="input")
        case [int(), *_]:
            given = [[entry for entry in body.input if isinstance(entry, int)]]
        case many:
            given = [entry for entry in many if not isinstance(entry, int)]
    for index, entry in enumerate(given):
        if not entry:
            raise BadRequest(f"Invalid 'input[{index}]': an empty input has no embedding.", param=f"input[{index}]")
    return given
