"""`POST /v1/audio/transcriptions` and `POST /v1/audio/translations`."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from millstream.gateway.apis.audio.examples import HEARD, HEARD_STREAM
from millstream.gateway.apis.audio.read import prepare_audio, read_upload
from millstream.gateway.apis.audio.shape import FORM, AudioTask
from millstream.gateway.apis.audio.write import writers
from millstream.gateway.apis.endpoint import context_of
from millstream.gateway.apis.shared.examples import answers
from millstream.gateway.requests.handler import request_handler
from millstream.gateway.services.services import InServices, Services

router = APIRouter(tags=["audio"])
ANSWERS = answers(HEARD, HEARD_STREAM)


@router.post(
    "/v1/audio/transcriptions",
    summary="Write down what is said",
    responses=ANSWERS,
    openapi_extra=FORM,
    response_model=None,
)
async def transcribe(request: Request, services: InServices) -> Response:
    """A recording as a form: JSON, text or subtitles, or a stream of what is written slice by slice."""
    return await _answer("transcribe", request, services)


@router.post(
    "/v1/audio/translations",
    summary="Write down in English what is said",
    responses=ANSWERS,
    openapi_extra=FORM,
    response_model=None,
)
async def translate(request: Request, services: InServices) -> Response:
    """The same in English, whatever is spoken; `language` is the one that is spoken."""
    return await _answer("translate", request, services)


async def _answer(task: AudioTask, request: Request, services: Services) -> Response:
    settings = services.settings
    upload = await read_upload(request, task, settings.max_audio_bytes)
    model, caller = await services.model(upload.form.model), services.caller(request)
    place = context_of("audio", model, caller, settings)
    order = prepare_audio(upload, place, settings.max_audio_seconds)
    return await request_handler(services, request, order).answer(order, writers(upload.form))
