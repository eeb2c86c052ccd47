"""`GET/POST /v1/keys`, `GET/PATCH/DELETE /v1/keys/{id}`."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from millstream.common.broker.accounts.keyring import ApiKey, new_key
from millstream.common.errors import BadRequest
from millstream.gateway.apis.admin.keys.examples import API_KEY, NEW_KEY
from millstream.gateway.apis.admin.keys.shape import (
    ApiKeyDeleted,
    ApiKeyInfo,
    ApiKeyLimits,
    ApiKeyList,
    KeyTermsBody,
)
from millstream.gateway.apis.admin.viewer import InOperations, InViewer, operations_of, viewer_of
from millstream.gateway.apis.shared.examples import answers, deleted, listed
from millstream.gateway.apis.shared.json_route import JsonRoute
from millstream.gateway.services.operations import Operations
from millstream.gateway.services.services import InServices, Services

router = APIRouter(tags=["keys"], route_class=JsonRoute)
SEE, CHANGE = "see API keys", "change API keys"


def changed_key(record: ApiKey, terms: KeyTermsBody) -> ApiKey:
    """Returns the record with what the terms say; what they leave out stays."""
    given: dict[str, Any] = terms.model_dump(exclude_none=True, exclude={"limits", "models"})
    if terms.models is not None:
        given["models"] = tuple(terms.models)
    limits = terms.limits.model_dump(exclude_none=True) if terms.limits else {}
    return msgspec.structs.replace(record, limits=msgspec.structs.replace(record.limits, **limits), **given)


def key_info(record: ApiKey, key: str | None = None) -> ApiKeyInfo:
    """Returns a key's terms; `key` is the key itself, if it has just been made."""
    told = msgspec.to_builtins(record.limits)
    limits = ApiKeyLimits(**{name: max(told.get(name, 0), 0) for name in ApiKeyLimits.model_fields})
    return ApiKeyInfo(
        id=record.id,
        tenant=record.tenant,
        ending=record.ending,
        weight=record.weight,
        ceiling=record.ceiling,
        models=list(record.models),
        limits=limits,
        created=record.created,
        key=key,
    )


def _json(told: ApiKeyInfo, status: int = 200) -> JSONResponse:
    return JSONResponse(told.model_dump(exclude_none=True), status_code=status, headers={"cache-control": "no-store"})


@router.get(
    "/v1/keys",
    summary="List the API keys",
    response_model_exclude={"data": {"__all__": {"key"}}},
    responses=listed(API_KEY),
)
async def list_keys(
    viewer: InViewer,
    operations: InOperations,
    tenant: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ApiKeyList:
    """Lists the keys made here or by `millstream keys create`, the oldest first; those of the gateway's settings are
    not among them. For admins."""
    viewer.check_admin(SEE)
    found = [record for record in await operations.keys() if tenant in (None, record.tenant)]
    ids = [record.id for record in found]
    if after is not None and after not in ids:
        raise BadRequest(f"Invalid 'after': there is no API key '{after[:80]}'.", param="after")
    begin = ids.index(after) + 1 if after is not None else 0
    data = [key_info(record) for record in found[begin : begin + limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return ApiKeyList(data=data, first_id=first, last_id=last, has_more=len(found) > begin + limit)


@router.post(
    "/v1/keys",
    summary="Make an API key",
    response_model=ApiKeyInfo,
    status_code=201,
    responses=answers(NEW_KEY, status=201),
)
async def create_key(body: KeyTermsBody, request: Request, services: InServices) -> JSONResponse:
    """Makes a key. The answer shows it, and nothing can show it again. Once there is a key, this gateway demands one of
    everybody within a second; the caller's own way in (a key of the settings, or none) may end with that. For
    admins."""
    operations = _for_admins(request, services)
    key, record = new_key()
    made = changed_key(record, body)
    await operations.keep_key(key, made)
    return _json(key_info(made, key), 201)


def _for_admins(request: Request, services: Services) -> Operations:
    viewer_of(request, services).check_admin(CHANGE)
    return operations_of(services)


@router.get("/v1/keys/{id}", summary="Look at an API key", response_model_exclude_none=True, responses=answers(API_KEY))
async def read_key(id: str, viewer: InViewer, operations: InOperations) -> ApiKeyInfo:
    """Returns a key's terms. For admins."""
    viewer.check_admin(SEE)
    return key_info(await operations.key(id))


@router.patch("/v1/keys/{id}", summary="Change an API key", response_model=ApiKeyInfo, responses=answers(API_KEY))
async def change_key(id: str, body: KeyTermsBody, request: Request, services: InServices) -> JSONResponse:
    """Changes what the body names; gateways know of it within a second. For admins."""
    operations = _for_admins(request, services)
    changed = changed_key(await operations.key(id), body)
    await operations.change_key(changed)
    return _json(key_info(changed))


@router.delete("/v1/keys/{id}", summary="Revoke an API key", responses=deleted("key_c0d7d7ca8c2a", "api_key.deleted"))
async def delete_key(id: str, viewer: InViewer, operations: InOperations) -> ApiKeyDeleted:
    """Refuses the key from now on (within a second). The last one's end opens nothing: keys stay demanded. For
    admins."""
    viewer.check_admin(CHANGE)
    record = await operations.revoke(id)
    return ApiKeyDeleted(id=record.id)
