"""The Batch API: create, list, look at, cancel. A background process does the work."""

import secrets
import time
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from millstream.common.broker.accounts.keyring import ApiKey, digest, encode_key
from millstream.common.broker.records.batches import Batches
from millstream.common.errors import BadRequest, NotFound, Unavailable
from millstream.gateway.access.authentication import presented
from millstream.gateway.apis.batches.examples import BATCH
from millstream.gateway.apis.batches.shape import BatchRequest
from millstream.gateway.apis.files.route import catalogue_of, listing
from millstream.gateway.apis.shared.examples import answers, listed
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.records.batches import Batch, batch_object, window_seconds
from millstream.gateway.records.lost import missing
from millstream.gateway.records.store import Record, RecordStore
from millstream.gateway.services.services import InServices, Services, key_of

router = APIRouter(tags=["batches"], route_class=JsonRoute)


class Ledger:
    """One tenant's batches."""

    def __init__(self, batches: Batches, store: RecordStore, key: ApiKey, key_digest: str) -> None:
        """`key_digest`: by which the key is found again, as long as it is not revoked; empty for none."""
        self._batches = batches
        self._store = store
        self._key = key
        self._key_digest = key_digest
        self._tenant = key.tenant

    async def create(self, body: BatchRequest, ttl: float) -> Batch:
        """Creates a new batch, to be validated by a background process; kept for `ttl` seconds beyond its window."""
        now = int(time.time())
        window = window_seconds(body.completion_window)
        identity = f"batch_{secrets.token_hex(12)}"
        expiry = body.output_expires_after
        fields: dict[str, str | int] = {
            "tenant": self._tenant,
            "key": encode_key(self._key).decode(),
            "key_digest": self._key_digest,
            "endpoint": body.endpoint,
            "input_file_id": body.input_file_id,
            "completion_window": body.completion_window,
            "created_at": now,
            "expires_at": now + window,
            "metadata": msgspec.json.encode(body.metadata).decode() if body.metadata else "",
            "output_ttl": expiry.seconds if expiry else 0,
        }
        await self._store.put(self._tenant, "batch", Record(identity, now, b"{}"), window + ttl)
        await self._batches.create(identity, fields, now, window + ttl)
        return await self.get(identity)

    async def get(self, identity: str) -> Batch:
        """Raises `NotFound`."""
        state = await self._batches.state(identity)
        if state.get("tenant") != self._tenant or "status" not in state:
            uptime = await self._store.uptime(self._tenant)
            raise missing(f"No such batch: {identity[:80]}", "batch_id", identity, uptime)
        return Batch(identity, state)

    async def list(self, after: str | None, limit: int) -> tuple[list[Batch], bool]:
        """The newest first, up to `limit`, and whether there are more. Raises `BadRequest` for an unknown `after`."""
        if after is not None and await self._store.get(self._tenant, "batch", after) is None:
            raise BadRequest(f"Invalid 'after': there is no batch '{after[:80]}'.", param="after")
        records = await self._store.list(self._tenant, "batch", after=after, limit=limit + 1, descending=True)
        found = [Batch(record.id, await self._batches.state(record.id)) for record in records[:limit]]
        return [batch for batch in found if batch.state], len(records) > limit

    async def cancel(self, identity: str) -> Batch:
        """Asks for its end; answers that are there stay. Raises `BadRequest` for one that is over."""
        batch = await self.get(identity)
        changed, status = await self._batches.move(identity, ("validating", "in_progress"), "cancelling")
        if not changed and status not in ("cancelling", "cancelled"):
            raise BadRequest(f"Cannot cancel a batch with status '{status}'.", param="batch_id")
        return await self.get(batch.id)


def _ledger(request: Request, services: Services) -> Ledger:
    cluster = services.cluster
    if cluster.batches is None or cluster.store is None:
        raise Unavailable("This gateway keeps no batches.")
    key = key_of(request)
    found_again = "" if key.static else digest(presented(request.headers) or "")
    return Ledger(cluster.batches, cluster.store, key, found_again)


@router.post("/v1/batches", summary="Work through a file of requests", responses=answers(BATCH), response_model=None)
async def create_batch(body: BatchRequest, request: Request, services: InServices) -> Response:
    """The file (purpose `batch`) is validated as a whole before its first line runs."""
    try:
        file = await catalogue_of(request, services).get(body.input_file_id)
    except NotFound as error:
        raise BadRequest(f"Invalid 'input_file_id': {error.message}", param="input_file_id") from error
    if file.purpose != "batch":
        message = f"Invalid 'input_file_id': the file's purpose is '{file.purpose}', expected 'batch'."
        raise BadRequest(message, param="input_file_id")
    return _json(await _ledger(request, services).create(body, services.settings.stored_ttl))


@router.get("/v1/batches", summary="List the batches", responses=listed(BATCH), response_model=None)
async def list_batches(
    request: Request, services: InServices, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Response:
    """The newest first."""
    batches, more = await _ledger(request, services).list(after, limit)
    return _encoded(listing([batch_object(batch) for batch in batches], [batch.id for batch in batches], more))


@router.get("/v1/batches/{batch_id}", summary="Look at a batch", responses=answers(BATCH), response_model=None)
async def retrieve_batch(batch_id: str, request: Request, services: InServices) -> Response:
    """Returns the batch's status and counts now."""
    return _json(await _ledger(request, services).get(batch_id))


@router.post(
    "/v1/batches/{batch_id}/cancel",
    summary="Cancel a batch",
    responses=answers(BATCH | {"status": "cancelling"}),
    response_model=None,
)
async def cancel_batch(batch_id: str, request: Request, services: InServices) -> Response:
    """Stops what is running; the answers that are there are written to the output file."""
    return _json(await _ledger(request, services).cancel(batch_id))


def _json(batch: Batch) -> Response:
    return _encoded(batch_object(batch))


def _encoded(body: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
