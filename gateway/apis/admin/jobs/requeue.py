"""Another try for a job that killed its workers."""

import msgspec

from millstream.common.broker.jobs import decode_request
from millstream.common.broker.models.inspection import DeadJob
from millstream.common.errors import BadRequest, NotFound
from millstream.common.request_id import new_request_id, request_of
from millstream.gateway.queue.client import Submission
from millstream.gateway.services.services import Services


async def requeue_dead(services: Services, dead: DeadJob) -> str:
    """Submits the request again, for the same tenant. Its answer is kept for whoever reads the new job's stream.
    Returns the new job's id. Raises `BadRequest` for a request that was too long to be kept whole."""
    try:
        request = decode_request(dead.request)
    except msgspec.MsgspecError as error:
        message = f"The request of '{dead.id}' was too long to be kept whole, so it cannot be submitted again."
        raise BadRequest(message, param="id") from error
    try:
        family = request_of(dead.id).family
    except NotFound:
        family = "chatcmpl"
    identity = new_request_id(family, dead.model, 1)
    job = identity.jobs()[0]
    timeout = services.settings.request_timeout
    again = Submission(dead.model, [(job, request)], tenant=dead.tenant, timeout=timeout, resumable=True)
    await services.cluster.queue.submit(again)
    return job
