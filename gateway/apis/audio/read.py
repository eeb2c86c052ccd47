"""Turns a form with a recording into a prepared request."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request

from millstream.common.errors import BadRequest, BodyTooLarge
from millstream.common.job import AudioInput, JobRequest, Sampling
from millstream.gateway.apis.audio.shape import AudioForm
from millstream.gateway.apis.shared.read.messages import unsupported
from millstream.gateway.apis.shared.read.sampling import choice_seed
from millstream.gateway.connection.disconnect import ClientGone
from millstream.gateway.errors.table import FieldError, StorageFailed
from millstream.gateway.errors.validation import shaped
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared, streamed

AudioTask = Literal["transcribe", "translate"]
MOST_FIELDS = 32
GRANULARITIES = ("timestamp_granularities[]", "timestamp_granularities")
REFUSED = {
    "include": "log-probabilities of tokens are not told",
    "chunking_strategy": "recordings are cut in slices of 30 seconds",
    "known_speaker_names": "speakers are not told apart",
    "known_speaker_references": "speakers are not told apart",
}
WORDS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Upload:
    """A form that was read: its fields and the file's bytes."""

    form: AudioForm
    audio: bytes


async def read_upload(request: Request, task: AudioTask, most: int) -> Upload:
    """Returns the form, its file `most` bytes at most. Raises `BadRequest` naming the field at fault, `BodyTooLarge`,
    `ClientGone`, `StorageFailed`."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise BadRequest("Expected a form (multipart/form-data) with the fields 'file' and 'model'.", param="file")
    try:
        async with request.form(max_files=1, max_fields=MOST_FIELDS) as sent:
            fields = _fields(sent, task)
            file = _file(sent, most)
            audio = await asyncio.to_thread(file.file.read)
    except ClientDisconnect as error:
        raise ClientGone("The upload was cut off.") from error
    except OSError as error:  # the form's own copy
        raise StorageFailed(f"The upload cannot be kept: {error.strerror or error}.") from error
    digest = await asyncio.to_thread(lambda: sha256(audio).hexdigest())
    form = shaped(AudioForm, fields | {"digest": digest})
    _check(form)
    return Upload(form, audio)


def _file(form: FormData, most: int) -> UploadFile:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise FieldError("Missing required parameter: 'file'.", param="file", wire_code="missing_required_parameter")
    if (file.size or 0) > most:
        raise BodyTooLarge(f"The recording is too large: {file.size} bytes; at most {most} are accepted.", param="file")
    if not file.size:
        raise BadRequest("The recording is empty.", param="file")
    return file


def _fields(form: FormData, task: AudioTask) -> dict[str, Any]:
    """Returns the fields with the types that they stand for; what is none of its type stays text."""
    sent = {name: value for name, value in form.multi_items() if isinstance(value, str) and value}
    for name, why in REFUSED.items():
        for spelt in (name, f"{name}[]"):
            if sent.get(spelt, "auto" if name == "chunking_strategy" else "") not in ("", "auto"):
                raise unsupported(name, why)
    fields: dict[str, Any] = dict(sent)
    fields["timestamp_granularities"] = [str(each) for name in GRANULARITIES for each in form.getlist(name)]
    fields["task"] = task
    return fields | _numbers(sent)


def _numbers(sent: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in (("temperature", float), ("seed", int)):
        try:
            found |= {name: kind(sent[name])} if name in sent else {}
        except ValueError:
            continue
    if (word := sent.get("stream", "").lower()) in WORDS:
        found["stream"] = WORDS[word]
    return found


def _check(form: AudioForm) -> None:
    """Raises `BadRequest` for what goes not together."""
    if "word" in form.timestamp_granularities:
        raise unsupported("timestamp_granularities", "times are told of segments, not of single words")
    if form.timestamp_granularities and form.response_format != "verbose_json":
        raise BadRequest(
            "'timestamp_granularities' needs 'response_format' to be 'verbose_json'.", param="timestamp_granularities"
        )
    if form.stream and form.response_format not in ("json", "text"):
        raise BadRequest(
            f"A stream tells text only: leave 'response_format' out, instead of '{form.response_format}'.",
            param="response_format",
        )


def prepare_audio(upload: Upload, place: RequestContext, most_seconds: float) -> PreparedRequest:
    """Returns the one job of a recording."""
    form = upload.form
    sound = AudioInput(
        audio=upload.audio,
        translate=form.task == "translate",
        language=form.language or "",
        prompt=form.prompt or "",
        most_seconds=most_seconds,
    )
    sampling = Sampling(seed=choice_seed(form.seed, 0), temperature=form.temperature)
    return streamed(prepared(place, form, [JobRequest(sound, sampling)]), form.stream, include_usage=False)
