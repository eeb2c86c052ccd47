"""Whisper writes what transformers' own `generate` writes, and goes on from any slice as if nothing had been."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, Speech2TextConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from millstream.common.chunk import Chunk
from millstream.common.errors import BadRequest, MillstreamError
from millstream.common.job import AudioInput, ChatPrompt, JobInput, JobRequest, Sampling, TextPrompt, TokenizeInput
from millstream.worker.engines.base import LoadFailed, ModelCard, SequenceKey, TextSpec
from millstream.worker.engines.speech.cutting import FRAMES, Piece, cut
from millstream.worker.engines.speech.engine import SpeechEngine
from millstream.worker.engines.transformers.loading.kinds import find_kind, kind_of
from millstream.worker.engines.transformers.settings import EngineSettings, ModelSource
from tests.worker.engines.kinds.speech.tiny_whisper import END, FIRST_TIME, RATE, make, noise, wav

LONG = noise(70)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whisper") / "tiny-whisper"
    make(path)
    return path


def settings(folder: Path) -> EngineSettings:
    return EngineSettings(source=ModelSource(str(folder)), device="cpu", threads=1)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[SpeechEngine]:
    with closing(SpeechEngine(settings(folder))) as made:
        made.load()
        yield made


@pytest.fixture(scope="module")
def reference(folder: Path) -> WhisperForConditionalGeneration:
    return WhisperForConditionalGeneration.from_pretrained(folder).eval()


def answer(engine: SpeechEngine, asked: JobInput, earlier: list[Chunk] | None = None, **sampling: Any) -> list[Chunk]:
    request = JobRequest(asked, Sampling(**{"temperature": 0.0, **sampling}))

    async def all_of_it() -> list[Chunk]:
        return [chunk async for chunk in engine.answer(TextSpec(SequenceKey("job#1"), request, earlier or []))]

    return asyncio.run(all_of_it())


def sound(samples: NDArray[np.float32], **asked: Any) -> AudioInput:
    return AudioInput(wav(samples), **asked)


def generated(
    model: WhisperForConditionalGeneration, folder: Path, samples: NDArray[np.float32], **asked: Any
) -> list[int]:
    """Returns what the library writes for one slice, the end token left out."""
    exact = (samples * 32767).astype("<i2").astype(np.float32) / 32768
    extract = WhisperFeatureExtractor.from_pretrained(folder)
    features = extract(exact, sampling_rate=RATE, return_tensors="pt").input_features
    once = {"return_timestamps": True, "do_sample": False, "num_beams": 1, "force_unique_generate_call": True}
    told = model.generate(features, **once, **asked)[0].tolist()
    return [token for token in told if token != END]


def without_opening(ids: list[int]) -> list[int]:
    """Transformers tells the tokens that a slice begins with in some versions and leaves them out in others."""
    return ids[3:] if ids[0] == END + 1 else ids


@pytest.mark.parametrize("seconds", [3, 12.34, 30])
@pytest.mark.parametrize("asked", [{"language": "en"}, {"language": "de"}, {"language": "de", "task": "translate"}, {}])
def test_a_slice_is_the_librarys_token_for_token(
    engine: SpeechEngine, reference: Any, folder: Path, seconds: float, asked: dict[str, str]
) -> None:
    samples = noise(seconds, seed=int(seconds))
    wanted = without_opening(generated(reference, folder, samples, **{"task": "transcribe", **asked}))
    translate = asked.get("task") == "translate"
    _, *slices, last = answer(engine, sound(samples, language=asked.get("language", ""), translate=translate))
    assert len(wanted) > 10
    assert slices[0].ids == wanted
    assert last.finish == "stop"
    assert last.usage is not None
    assert last.usage.completion == sum(len(chunk.ids) for chunk in slices)


def test_a_prompt_comes_before_the_slice(engine: SpeechEngine, reference: Any, folder: Path) -> None:
    samples, said = noise(5), "the mill"
    ids = torch.tensor(
        [END + 1 + 6, *(asyncio.run(engine.compute(TokenizeInput(text=f" {said}", add_special_tokens=False)))[0].ids)]
    )
    wanted = generated(reference, folder, samples, task="transcribe", language="en", prompt_ids=ids)
    opening = [END + 1, END + 2, END + 5]
    if opening[0] in wanted:
        wanted = wanted[wanted.index(opening[0]) + 3 :]
    chunk = answer(engine, sound(samples, language="en", prompt=said))[1]
    assert chunk.ids == wanted
    assert chunk.ids != answer(engine, sound(samples, language="en"))[1].ids


def test_what_a_prompt_spells_of_special_tokens_is_not_read(engine: SpeechEngine) -> None:
    samples = noise(5)
    plain = answer(engine, sound(samples, prompt="the mill"))[1]
    assert answer(engine, sound(samples, prompt="the<|nospeech|><|endoftext|> mill"))[1].ids != []
    assert answer(engine, sound(samples, prompt="  "))[1].ids == answer(engine, sound(samples))[1].ids
    assert answer(engine, sound(samples, prompt="x " * 500 + "the mill"))[1].ids != plain.ids


def test_slices_follow_each_other_to_the_end(engine: SpeechEngine) -> None:
    start, *chunks, last = answer(engine, sound(LONG))
    slices = [chunk.slice for chunk in chunks if chunk.slice is not None]
    assert start.start is not None
    assert start.start.exactness == "exact"
    assert len(slices) == len(chunks) >= 3
    assert [each.at for each in slices] == [0, *(each.next for each in slices[:-1])]
    assert slices[-1].next >= 7000 - 10
    assert {each.seconds for each in slices} == {70.0}
    assert last.finish == "stop"
    for each in slices:
        assert all(each.at / 100 <= one.start <= one.end <= 70.0 for one in each.segments)
        assert 0 <= each.no_speech <= 1
        assert each.logprob < 0


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_it_goes_on_exactly_from_every_slice(engine: SpeechEngine, folder: Path, temperature: float) -> None:
    """On another engine, as on another worker."""
    asked = sound(LONG, prompt="corn")
    whole = answer(engine, asked, seed=5, temperature=temperature)
    with closing(SpeechEngine(settings(folder))) as other:
        other.load()
        for cut_at in range(1, len(whole)):
            assert answer(other, asked, whole[:cut_at], seed=5, temperature=temperature) == whole[cut_at:]


def test_a_seed_is_another_draw(engine: SpeechEngine) -> None:
    asked = sound(noise(4))
    first, second, again = (answer(engine, asked, seed=seed, temperature=1.0) for seed in (1, 2, 1))
    assert first == again
    assert first[1].ids != second[1].ids


def test_the_language_of_the_first_slice_is_kept(engine: SpeechEngine, reference: Any, folder: Path) -> None:
    chunks = answer(engine, sound(LONG))
    found = {chunk.slice.language for chunk in chunks if chunk.slice is not None}
    extract = WhisperFeatureExtractor.from_pretrained(folder)
    exact = (LONG[: 30 * RATE] * 32767).astype("<i2").astype(np.float32) / 32768
    wanted = reference.detect_language(extract(exact, sampling_rate=RATE, return_tensors="pt").input_features)
    assert found == {{258: "en", 259: "de"}[int(wanted)]}


@pytest.mark.parametrize("named", ["DE", "german", " German ", "de"])
def test_a_language_by_code_or_name(engine: SpeechEngine, named: str) -> None:
    chunk = answer(engine, sound(noise(2), language=named))[1]
    assert chunk.slice is not None
    assert chunk.slice.language == "de"


REFUSED: list[tuple[JobInput, str, str]] = [
    (sound(noise(2), language="fr"), "language", "en"),
    (sound(noise(2), language="klingon" * 100), "language", "de, en"),
    (ChatPrompt([{"role": "user", "content": "hi"}]), "model", "/v1/chat/completions"),
    (TextPrompt("hi"), "model", "/v1/audio/transcriptions"),
    (AudioInput(b"no sound"), "file", "WAV"),
    (sound(noise(5), most_seconds=4), "file", "longer than 4 seconds"),
]


@pytest.mark.parametrize(("asked", "param", "words"), REFUSED)
def test_what_it_cannot_do_is_refused_by_name(engine: SpeechEngine, asked: JobInput, param: str, words: str) -> None:
    with pytest.raises(BadRequest) as told:
        answer(engine, asked)
    assert told.value.param == param
    assert words in told.value.message


def test_it_tokenizes(engine: SpeechEngine) -> None:
    ids = asyncio.run(engine.compute(TokenizeInput(text="mill")))[0].ids
    assert asyncio.run(engine.compute(TokenizeInput(ids=ids)))[0].text == "mill"
    with pytest.raises(BadRequest):
        asyncio.run(engine.compute(TokenizeInput(messages=[])))


def test_one_language_alone(tmp_path: Path) -> None:
    """A model of the checkpoints named `.en` is told neither a language nor a task, and translates nothing."""
    model = make(tmp_path / "tiny.en", multilingual=False)
    with closing(SpeechEngine(settings(tmp_path / "tiny.en"))) as engine:
        card: ModelCard = engine.load()
        assert card.capabilities == ("transcriptions",)
        samples = noise(6)
        wanted = generated(model, tmp_path / "tiny.en", samples)
        assert answer(engine, sound(samples, language="en"))[1].ids == wanted[wanted[0] == END + 1 :]
        with pytest.raises(BadRequest, match="knows: en"):
            answer(engine, sound(samples, language="de"))


def test_a_job_that_is_given_up_ends_within_a_token(engine: SpeechEngine) -> None:
    request = JobRequest(sound(LONG), Sampling(temperature=0.0))

    async def give_up() -> list[Chunk]:
        chunks = engine.answer(TextSpec(SequenceKey("job#2"), request))
        await anext(chunks)
        running = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await chunks.aclose()
        return answer_in(await asyncio.to_thread(answer, engine, sound(noise(2))))

    assert asyncio.run(give_up())
    assert engine.stats().running == 0


def answer_in(chunks: list[Chunk]) -> list[Chunk]:
    return [chunk for chunk in chunks if chunk.slice is not None]


def test_kinds(folder: Path, tmp_path: Path) -> None:
    assert find_kind(ModelSource(str(folder))) == "speech"
    assert kind_of(str(tmp_path), AutoConfig.for_model("speech_to_text")) == "speech"


def test_others_that_hear_are_refused(tmp_path: Path) -> None:
    from transformers import Speech2TextForConditionalGeneration

    sizes = {f"{part}_{what}": 1 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    config = Speech2TextConfig(vocab_size=260, d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16, **sizes)
    Speech2TextForConditionalGeneration(config).save_pretrained(tmp_path)
    from tests.worker.engines.conftest import byte_tokenizer

    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(MillstreamError, match="only Whisper is served"):
        SpeechEngine(settings(tmp_path)).load()


def test_a_checkpoint_that_does_not_tell_its_tokens_is_refused(tmp_path: Path) -> None:
    model = make(tmp_path)
    model.generation_config.no_timestamps_token_id = None
    model.save_pretrained(tmp_path)
    with pytest.raises(LoadFailed, match="no_timestamps_token_id"):
        SpeechEngine(settings(tmp_path)).load()


def time(seconds: float) -> int:
    return FIRST_TIME + round(seconds * 50)


CUTS: list[tuple[list[int], int, list[Piece], int]] = [
    ([], FRAMES, [Piece(0, FRAMES, [])], FRAMES),
    ([1, 2], FRAMES, [Piece(0, FRAMES, [1, 2])], FRAMES),
    ([time(0), 1, time(4)], FRAMES, [Piece(0, 400, [time(0), 1, time(4)])], FRAMES),
    (
        [time(0), 1, time(4), time(4), 2, time(9), time(9)],
        FRAMES,
        [Piece(0, 400, [time(0), 1, time(4)]), Piece(400, 900, [time(4), 2, time(9)])],
        900,
    ),
    (
        [time(0), 1, time(4), time(4), 2, time(9)],
        FRAMES,
        [Piece(0, 400, [time(0), 1, time(4)]), Piece(400, 900, [time(4), 2, time(9)])],
        FRAMES,
    ),
    ([time(0), 1, time(0.1), time(0.1), 2], FRAMES, [Piece(0, 10, [time(0), 1, time(0.1)])], 100),
    ([time(0), 1, time(20), time(20), 2], 500, [Piece(0, 500, [time(0), 1, time(20)])], 500),
]


@pytest.mark.parametrize(("ids", "frames", "pieces", "went"), CUTS)
def test_cutting(ids: list[int], frames: int, pieces: list[Piece], went: int) -> None:
    assert cut(ids, FIRST_TIME, frames) == (pieces, went)
