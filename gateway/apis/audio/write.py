"""Writes what a recording says: OpenAI's objects, plain text, subtitles, and the events of a stream."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec

from millstream.common.chunk import Chunk, SpokenSlice, Usage
from millstream.common.errors import MillstreamError
from millstream.gateway.apis.audio.languages import name_of
from millstream.gateway.apis.audio.shape import AudioForm
from millstream.gateway.apis.chat.write import sse
from millstream.gateway.connection.sse import SSE
from millstream.gateway.errors.table import error_json
from millstream.gateway.requests.accumulator import Accumulator
from millstream.gateway.requests.handler import Writers
from millstream.gateway.requests.response_meta import ResponseMeta

encode = msgspec.json.Encoder().encode


def writers(form: AudioForm) -> Writers:
    """Returns how the answer is written, in the format that was asked for."""
    if form.response_format in ("json", "verbose_json"):
        return Writers(whole=partial(_body, form), stream=AudioStream)
    return Writers(whole=partial(_body, form), stream=AudioStream, text=partial(_text, form))


def _body(form: AudioForm, head: ResponseMeta, accumulators: list[Accumulator]) -> dict[str, Any]:
    said = accumulators[0]
    text = said.text.strip()
    if form.response_format == "verbose_json":
        return _verbose(form, text, said.slices)
    return {"text": text, "usage": _usage(said.slices)}


def _text(form: AudioForm, accumulators: list[Accumulator]) -> str:
    said = accumulators[0]
    match form.response_format:
        case "srt":
            return "".join(f"{number}\n{cue}" for number, cue in enumerate(_cues(said.slices, ","), 1))
        case "vtt":
            return "WEBVTT\n\n" + "".join(_cues(said.slices, "."))
        case _:
            return f"{said.text.strip()}\n"


def _usage(slices: list[SpokenSlice]) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(slices[-1].seconds) if slices else 0}


def _verbose(form: AudioForm, text: str, slices: list[SpokenSlice]) -> dict[str, Any]:
    spoken = next((each.language for each in slices if each.language), "en")
    return {
        "task": form.task,
        "language": name_of("en" if form.task == "translate" else spoken),
        "duration": slices[-1].seconds if slices else 0.0,
        "text": text,
        "segments": list(_segments(slices)),
        "usage": _usage(slices),
    }


def _segments(slices: list[SpokenSlice]) -> Iterator[dict[str, Any]]:
    every = ((one, segment) for one in slices for segment in one.segments)
    for number, (one, segment) in enumerate(every):
        yield {
            "id": number,
            "seek": one.at,
            "start": segment.start,
            "end": segment.end,
            "text": segment.text,
            "tokens": segment.ids,
            "temperature": one.temperature,
            "avg_logprob": one.logprob,
            "compression_ratio": one.compression,
            "no_speech_prob": one.no_speech,
        }


def _cues(slices: list[SpokenSlice], point: str) -> Iterator[str]:
    for one in slices:
        for segment in one.segments:
            words = " ".join(segment.text.replace("-->", "->").split())  # an empty line would end the cue
            yield f"{_time(segment.start, point)} --> {_time(segment.end, point)}\n{words}\n\n"


def _time(seconds: float, point: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


class AudioStream:
    """The stream of a recording: an event for each slice, and one with the whole text. Implements `Presenter`."""

    framing = SSE
    needs_history = True  # the last event has all of the text

    def __init__(self, head: ResponseMeta) -> None:
        self._texts: list[str] = []
        self._slices: list[SpokenSlice] = []

    def event(self, choice: int, chunk: Chunk, place: bytes) -> bytes:
        if chunk.slice is not None:
            self._slices.append(chunk.slice)
        if chunk.finish is not None:
            done = {"type": "transcript.text.done", "text": "".join(self._texts), "usage": _usage(self._slices)}
            return sse(encode(done), place)
        text = chunk.text if self._texts else chunk.text.lstrip()
        if not text:
            return b""
        self._texts.append(text)
        return sse(encode({"type": "transcript.text.delta", "delta": text}), place)

    def closing(self, usages: list[Usage] | None, place: bytes) -> bytes:
        return b""

    def failure(self, error: MillstreamError, place: bytes) -> bytes:
        return sse(error_json(error), place)
