"""Whisper as a text engine: a recording is written down slice by slice, and each slice is a chunk of the job's log.

A slice begins where the one before says, so whoever reads the log can go on: the death of a worker costs the slice that
it was at. All jobs take turns, a slice each, on one thread.
"""

import asyncio
import threading
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from millstream.common.chunk import Chunk, Result, Segment, SpokenSlice, Start, Usage
from millstream.common.errors import BadRequest, Unavailable
from millstream.common.job import AudioInput, ChatPrompt, Sampling, TokenizeInput, WorkInput
from millstream.worker.engines.base import EngineStats, LoadProgress, ModelCard, TextSpec, silent
from millstream.worker.engines.routes import require
from millstream.worker.engines.speech.cutting import FRAMES, Piece, cut
from millstream.worker.engines.speech.languages import code_of
from millstream.worker.engines.speech.model import Chance, SpeechModel, load_speech_model
from millstream.worker.engines.speech.sound import Samples, read_sound
from millstream.worker.engines.transformers.fingerprint import fingerprint
from millstream.worker.engines.transformers.settings import EngineSettings

SLOTS = 4  # recordings that take turns
_FRAME = 160  # samples: a hundredth of a second
_REST = 10  # frames at a recording's end that are too few to say anything
_LEAST_TOLD = -1e4  # JSON has no infinity
_SILENT, _UNSURE = 0.6, -1.0  # OpenAI's thresholds of `no_speech` and `logprob`: beyond both, nothing was said


@dataclass(frozen=True, slots=True)
class _Place:
    """The place in a recording: the frame of the next slice, and the language once it is known."""

    at: int = 0
    language: str = ""
    tokens: int = 0  # written so far


class SpeechEngine:
    """Implements `worker.engines.base.TextEngine`."""

    kind: Literal["text"] = "text"

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.slots = settings.slots or SLOTS
        self._model: SpeechModel | None = None
        self._card: ModelCard | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="millstream-engine")
        self._running = 0
        self._slices = 0

    def load(self, progress: LoadProgress = silent) -> ModelCard:
        """Loads the model and blocks meanwhile. Raises `MillstreamError` with the cause and the remedy."""
        self._model = model = load_speech_model(self.settings, progress)
        loaded = model.loaded
        dtype = str(loaded.model.dtype).removeprefix("torch.")
        does = ("transcriptions", "translations") if "translate" in model.tasks else ("transcriptions",)
        self._card = ModelCard(
            name=loaded.name,
            engine="transformers",
            context_length=model.room,
            fingerprint=fingerprint(loaded, self.settings, {}),
            capabilities=does,
            details={
                "dtype": dtype,
                "device": str(loaded.model.device),
                "revision": loaded.revision,
                "model": self.settings.source.model,
                "batching": "no",
                "languages": str(len(model.languages) or 1),
            },
            exactness=dict.fromkeys(does, "exact" if dtype == "float32" else "tokens"),
        )
        return self._card

    def start(self, changed: Callable[[], None]) -> None:
        pass  # its slots do not change

    def stats(self) -> EngineStats:
        return EngineStats(running=self._running, steps=self._slices)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ready(self) -> tuple[SpeechModel, ModelCard]:
        if self._model is None or self._card is None:
            raise Unavailable("The model is not loaded.")
        return self._model, self._card

    async def answer(self, spec: TextSpec) -> AsyncGenerator[Chunk]:
        model, card = self._ready()
        sound = spec.request.input
        if not isinstance(sound, AudioInput):
            require(card, "chat" if isinstance(sound, ChatPrompt) else "completions")
            raise BadRequest("This model takes recordings only.", param="model")
        place = _continued(spec.earlier, code_of(sound.language, model.languages))
        samples = await asyncio.to_thread(read_sound, sound.audio, sound.most_seconds)
        if not spec.earlier:
            kind = "translations" if sound.translate else "transcriptions"
            yield Chunk(start=Start(0, card.fingerprint, exactness=card.exactness[kind]))
        given_up = threading.Event()
        self._running += 1
        try:
            while len(samples) // _FRAME - place.at > (_REST if place.at else 0):
                work = partial(_slice, model, samples, sound, spec.request.sampling, place, given_up.is_set)
                chunk = await asyncio.get_running_loop().run_in_executor(self._thread, work)
                self._slices += 1
                place = _continued([chunk], place.language, place.tokens)
                yield chunk
        finally:
            given_up.set()
            self._running -= 1
        yield Chunk(finish="stop", usage=Usage(completion=place.tokens))

    async def compute(self, work: WorkInput) -> tuple[Result, int]:
        """Raises `BadRequest`."""
        if not isinstance(work, TokenizeInput):
            raise BadRequest("This model takes recordings only.", param="model")
        result = self._tokenized(work)
        return result, len(result.ids)

    def _tokenized(self, work: TokenizeInput) -> Result:
        tokenizer = self._ready()[0].loaded.tokenizer
        if work.ids is not None:
            return Result(ids=work.ids, text=tokenizer.decode(work.ids, skip_special=False))
        if work.messages is not None:
            raise BadRequest("This model has no chat template: give 'prompt'.", param="messages")
        ids = tokenizer.encode(work.text or "", special=work.add_special_tokens)
        return Result(ids=ids, pieces=[tokenizer.decode([id], skip_special=False) for id in ids])


def _continued(chunks: Sequence[Chunk], language: str, tokens: int = 0) -> _Place:
    """Returns the place after these chunks."""
    place = _Place(0, language, tokens)
    for chunk in chunks:
        place = replace(place, tokens=place.tokens + chunk.tokens)
        if chunk.slice is not None:
            place = replace(place, at=chunk.slice.next, language=chunk.slice.language)
    return place


def _slice(
    model: SpeechModel,
    samples: Samples,
    sound: AudioInput,
    sampling: Sampling,
    place: _Place,
    given_up: Callable[[], bool],
) -> Chunk:
    """Returns the chunk of the slice at `place`. Blocks."""
    part = samples[place.at * _FRAME : (place.at + FRAMES) * _FRAME]
    heard = model.hear(part)
    language = place.language or (model.language_of(heard) if model.multilingual else "")
    opening = model.opening(language, translate=sound.translate)
    chance = Chance(sampling.temperature, sampling.seed, place.at)
    written = model.write(heard, model.before(sound.prompt), opening, chance, given_up)
    frames = min(FRAMES, len(samples) // _FRAME - place.at)
    if written.no_speech > _SILENT and written.logprob < _UNSURE:
        pieces, went = list[Piece](), frames
    else:
        pieces, went = cut(written.ids, model.first_time, frames)
    decode = model.loaded.tokenizer.decode
    segments = [
        Segment((place.at + each.start) / 100, (place.at + each.end) / 100, text, each.ids)
        for each in pieces
        if (text := decode([id for id in each.ids if id < model.end]))
    ]
    text = "".join(segment.text for segment in segments)
    told = SpokenSlice(
        at=place.at,
        next=place.at + went,
        seconds=len(samples) / (100 * _FRAME),
        language=language,
        segments=segments,
        temperature=sampling.temperature,
        logprob=max(_LEAST_TOLD, written.logprob),
        compression=_compression(text),
        no_speech=written.no_speech,
    )
    return Chunk(ids=written.ids, text=text, slice=told)


def _compression(text: str) -> float:
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw)) if raw else 0.0
