"""Reads forms (multipart/form-data) with one file."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request

from millstream.common.errors import BadRequest, BodyTooLarge
from millstream.gateway.connection.disconnect import ClientGone
from millstream.gateway.errors.table import FieldError, StorageFailed


@asynccontextmanager
async def upload_form(request: Request, beside: str, most_fields: int) -> AsyncGenerator[FormData]:
    """Yields the form of a request. `beside`: the field that it must have beside `file`. Raises `BadRequest`,
    `ClientGone`, and `StorageFailed` where the form's own copy cannot be kept."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        message = f"Expected a form (multipart/form-data) with the fields 'file' and '{beside}'."
        raise BadRequest(message, param="file")
    try:
        async with request.form(max_files=1, max_fields=most_fields) as form:
            yield form
    except ClientDisconnect as error:
        raise ClientGone("The upload was cut off.") from error
    except OSError as error:  # the form's own copy, before it reaches the storage
        raise StorageFailed(f"The upload cannot be kept: {error.strerror or error}.") from error


def uploaded_file(form: FormData, most: int, called: str) -> UploadFile:
    """Returns the file, `most` bytes at most. `called`: what it is in messages. Raises `BadRequest`, `BodyTooLarge`."""
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise FieldError("Missing required parameter: 'file'.", param="file", wire_code="missing_required_parameter")
    if (file.size or 0) > most:
        raise BodyTooLarge(f"The {called} is too large: {file.size} bytes; at most {most} are accepted.", param="file")
    if not file.size:
        raise BadRequest(f"The {called} is empty.", param="file")
    return file
