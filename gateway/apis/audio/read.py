"""Turns a form with a recording into a prepared request."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request

from millstream.common.errors import BadRequest
from millstream.common.job import AudioInput, JobRequest, Sampling
from millstream.gateway.apis.audio.shape import AudioForm, AudioTask
from millstream.gateway.apis.shared.read.messages import unsupported
from millstream.gateway.apis.shared.read.sampling import choice_seed
from millstream.gateway.apis.shared.read.upload import upload_form, uploaded_file
from millstream.gateway.errors.validation import shaped
from millstream.gateway.requests.prepared import PreparedRequest, RequestContext, prepared, streamed

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
    async with upload_form(request, "model", MOST_FIELDS) as sent:
        fields = _fields(sent, task)
        file = uploaded_file(sent, most, "recording")
        audio = await asyncio.to_thread(file.file.read)
    digest = await asyncio.to_thread(lambda: sha256(audio).hexdigest())
    form = shaped(AudioForm, fields | {"digest": digest})
    _check(form)
    return Upload(form, audio)


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
