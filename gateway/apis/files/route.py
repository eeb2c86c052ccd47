"""The Files API: upload, list, look at, read, delete."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.datastructures import FormData
from starlette.responses import Response, StreamingResponse

from millstream.common.errors import BadRequest, Unavailable
from millstream.gateway.apis.files.examples import FILE
from millstream.gateway.apis.shared.examples import answers, deleted, listed
from millstream.gateway.apis.shared.read.upload import upload_form, uploaded_file
from millstream.gateway.errors.table import FieldError
from millstream.gateway.records.files.catalogue import Catalogue, StoredFile
from millstream.gateway.services.services import InServices, Services, tenant_of

router = APIRouter(tags=["files"])
PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
LEAST_TTL, MOST_TTL = 3600, 30 * 86400  # seconds: OpenAI's bounds of expires_after
MOST_LISTED = 10_000
MOST_FIELDS = 16
FORM: dict[str, Any] = {  # read by hand, so described by hand
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(PURPOSES), "example": "batch"},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": LEAST_TTL, "maximum": MOST_TTL},
                    },
                }
            }
        },
    }
}


def catalogue_of(request: Request, services: Services) -> Catalogue:
    """Returns the caller's files. Raises `Unavailable` for a gateway without a storage."""
    cluster = services.cluster
    if cluster.storage is None or cluster.store is None:
        raise Unavailable("This gateway has no file storage.")
    return Catalogue(cluster.storage, cluster.store, tenant_of(request))


@router.post("/v1/files", summary="Upload a file", responses=answers(FILE), openapi_extra=FORM, response_model=None)
async def upload_file(request: Request, services: InServices) -> Response:
    """A form with `file`, `purpose` and, if wanted, `expires_after[anchor]` (`created_at`) and
    `expires_after[seconds]`, or both as JSON in `expires_after`. The file is stored when it has arrived whole, or not
    at all."""
    catalogue = catalogue_of(request, services)
    async with upload_form(request, "purpose", MOST_FIELDS) as form:
        purpose, ttl = _purpose(form), _ttl(form, services.settings.file_ttl)
        upload = uploaded_file(form, services.settings.max_file_bytes, "file")
        file = await catalogue.add(upload.file, upload.filename or "upload", purpose, ttl)
    return _json(file)


def _purpose(form: FormData) -> str:
    purpose = form.get("purpose")
    if purpose is None:
        text = "Missing required parameter: 'purpose'."
        raise FieldError(text, param="purpose", wire_code="missing_required_parameter")
    if purpose not in PURPOSES:
        known = ", ".join(f"'{each}'" for each in PURPOSES)
        text = f"Invalid value: {str(purpose)[:60]!r}. Supported values are: {known}."
        raise FieldError(text, param="purpose", wire_code="invalid_value")
    return str(purpose)


def _ttl(form: FormData, default: float) -> float:
    expiry = _expiry(form)
    if not expiry:
        return default
    if expiry.get("anchor") != "created_at":
        message = "Invalid 'expires_after[anchor]': expected 'created_at'."
        raise BadRequest(message, param="expires_after[anchor]")
    seconds = str(expiry.get("seconds"))
    if not (re.fullmatch("[0-9]{1,9}", seconds) and LEAST_TTL <= int(seconds) <= MOST_TTL):
        message = f"Invalid 'expires_after[seconds]': expected {LEAST_TTL} to {MOST_TTL} seconds."
        raise BadRequest(message, param="expires_after[seconds]")
    return float(seconds)


def _expiry(form: FormData) -> dict[str, object]:
    """`expires_after`, field by field or as one JSON object; empty if there is none."""
    whole = form.get("expires_after")
    if whole is None:
        fields = {name: form.get(f"expires_after[{name}]") for name in ("anchor", "seconds")}
        return {name: value for name, value in fields.items() if value is not None}
    try:
        return msgspec.json.decode(str(whole), type=dict[str, object]) or {"anchor": None}
    except msgspec.DecodeError as error:
        message = "Invalid 'expires_after': expected an object with 'anchor' and 'seconds'."
        raise BadRequest(message, param="expires_after") from error


@router.get("/v1/files", summary="List the files", responses=listed(FILE), response_model=None)
async def list_files(
    request: Request,
    services: InServices,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
    order: Literal["asc", "desc"] = "desc",
) -> Response:
    """The newest first, unless asked otherwise."""
    catalogue = catalogue_of(request, services)
    files, more = await catalogue.list(purpose, after=after, limit=limit, descending=order == "desc")
    return _json(listing(files, [file.id for file in files], more))


def listing(found: Sequence[object], ids: list[str], more: bool) -> dict[str, Any]:
    """OpenAI's page of objects, whose ids are given beside."""
    ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return {"object": "list", "data": found, **ends, "has_more": more}


@router.get("/v1/files/{file_id}", summary="Look at a file", responses=answers(FILE), response_model=None)
async def retrieve_file(file_id: str, request: Request, services: InServices) -> Response:
    """Returns the file's object, not its content."""
    return _json(await catalogue_of(request, services).get(file_id))


@router.get(
    "/v1/files/{file_id}/content",
    summary="Read a file",
    responses={200: {"content": {"application/octet-stream": {}}}},
    response_class=Response,
    response_model=None,
)
async def read_file(file_id: str, request: Request, services: InServices) -> Response:
    """Returns the file's bytes, as they were uploaded."""
    catalogue = catalogue_of(request, services)
    file = await catalogue.get(file_id)
    blocks = await _opened(catalogue.read(file))
    name = f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}"
    headers = {"content-length": str(file.bytes), "content-disposition": name}
    return StreamingResponse(blocks, media_type="application/octet-stream", headers=headers)


async def _opened(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yields the blocks, of which the first is there already: a file that cannot be read is an HTTP error."""
    first = await anext(blocks, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for block in blocks:
            yield block

    return all_of_them()


@router.delete("/v1/files/{file_id}", summary="Delete a file", responses=deleted(FILE["id"], "file"))
async def delete_file(file_id: str, request: Request, services: InServices) -> dict[str, Any]:
    """Forgets it and removes its bytes."""
    await catalogue_of(request, services).delete(file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def _json(body: StoredFile | dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
