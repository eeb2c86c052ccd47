"""`POST /v1/requests/{id}/cancel`: stop a request from anywhere."""

from fastapi import APIRouter, Request

from millstream.common.errors import NotFound, Unavailable
from millstream.common.request_id import checksum, parse_request_id
from millstream.gateway.apis.shared.examples import ID, answers
from millstream.gateway.services.services import InServices, tenant_of

router = APIRouter(tags=["requests"])


@router.post(
    "/v1/requests/{id}/cancel",
    summary="Cancel a request",
    responses=answers({"id": ID, "object": "request", "status": "cancelled"}),
)
async def cancel_request(id: str, request: Request, services: InServices) -> dict[str, str]:
    """Stops every job of the request, queued or running, whichever gateway serves it. `id` is the answer's own
    (`chatcmpl-…`), also in the header `x-millstream-request`. Cancelling twice, or soon after the end, is fine; a
    request that is not the caller's is none."""
    identity = parse_request_id(id)
    for model in await services.cluster.directory.models():
        if checksum(model.name) == identity.model:
            states = await services.cluster.queue.cancel(model.name, identity.jobs(), tenant=tenant_of(request))
            if not states:
                raise Unavailable("The queue did not answer, so the request may still run. Try again.", retry_after=1)
            if set(states) != {"missing"}:
                return {"id": id, "object": "request", "status": "cancelled"}
    raise NotFound(f"No request with id '{id[:80]}' was made here.", param="id")
