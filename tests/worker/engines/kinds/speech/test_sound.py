"""Recordings become what the model hears: every width of sample, every rate, and nothing that is no recording."""

import io
import random
import struct
import wave
from importlib import util
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from millstream.common.errors import BadRequest
from millstream.worker.engines.speech.sound import read_sound
from tests.worker.engines.kinds.speech.tiny_whisper import noise, wav

RATE = 16_000


def tone(hertz: float, rate: int, seconds: float) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def raw_wav(raw: bytes, width: int, rate: int = RATE, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)
    return out.getvalue()


def refused(file: bytes, **bounds: float) -> str:
    with pytest.raises(BadRequest) as told:
        read_sound(file, **bounds)
    assert told.value.param == "file"
    return told.value.message


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_width_of_sample(width: int) -> None:
    sound = tone(300, RATE, 0.5)
    numbers = np.round(sound * (2 ** (8 * width - 1) - 1)).astype(np.int64) + (128 if width == 1 else 0)
    raw = b"".join(int(each).to_bytes(width, "little", signed=width > 1) for each in numbers)
    assert np.abs(read_sound(raw_wav(raw, width)) - sound).max() < 2 ** (2 - 8 * min(width, 3))


def test_channels_are_mixed() -> None:
    both = np.stack([tone(300, RATE, 0.5), np.zeros(RATE // 2, np.float32)], axis=1)
    raw = (both * 32767).astype("<i2").tobytes()
    assert np.allclose(read_sound(raw_wav(raw, 2, channels=2)), both[:, 0] / 2, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 44_101, 48_000, 192_000])
def test_another_rate_is_the_same_sound(rate: int) -> None:
    """Over several blocks, whose seams are nowhere to be seen."""
    heard = read_sound(wav(tone(440, rate, 21.5), rate))
    wanted = tone(440, RATE, 21.5)
    assert len(heard) == len(wanted)
    middle = slice(RATE // 4, -RATE // 4)
    assert np.abs(heard[middle] - wanted[middle]).max() < 2e-3


def test_what_the_new_rate_cannot_hold_does_not_fold_back() -> None:
    heard = read_sound(wav(tone(11_000, 44_100, 3), 44_100))
    assert np.abs(heard[RATE // 4 : -RATE // 4]).max() < 2e-3


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3", "WAV"])
def test_other_formats_with_the_extra(kind: str) -> None:
    out, sound = io.BytesIO(), noise(2)
    inside = {"subtype": "FLOAT"} if kind == "WAV" else {}
    soundfile.write(out, sound, RATE, format=kind, **inside)
    heard = read_sound(out.getvalue())
    assert abs(len(heard) - len(sound)) < RATE / 4
    if kind in ("FLAC", "WAV"):
        assert np.abs(heard - sound).max() < 1e-3


def test_without_the_extra_the_answer_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = util.find_spec
    monkeypatch.setattr(
        "millstream.worker.engines.speech.sound.find_spec",
        lambda name: None if name == "soundfile" else found(name),
    )
    assert "millstream[audio]" in refused(b"fLaC" + bytes(400))
    assert len(read_sound(wav(noise(1)))) == RATE


GOOD = wav(noise(1))
BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty"),
    "no recording": (b"The mill turns. " * 100, "no WAV, FLAC, MP3 or OGG, or it is damaged (Format not recognised)"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(400), "no WAV, FLAC, MP3 or OGG"),
    "a header that is cut off": (GOOD[:20], "cut off"),
    "a header alone": (wav(noise(0)), "0.00 seconds"),
    "too short": (wav(noise(0.05)), "0.05 seconds"),
    "fewer samples than told": (GOOD[:-1000], "15500 of the 16000"),
    "a lying size": (GOOD[:40] + struct.pack("<I", 10**9) + GOOD[44:], "16000 of the 500000000"),
    "a huge rate": (GOOD[:24] + struct.pack("<I", 4_000_000_000) + GOOD[28:], "4000000000 samples a second"),
    "no rate": (GOOD[:24] + bytes(4) + GOOD[28:], "0 samples a second"),
    "no channels": (GOOD[:22] + bytes(2) + GOOD[24:], "damaged"),
    "too many channels": (wav(noise(1), channels=9), "9 channels"),
    "wide samples": (GOOD[:34] + struct.pack("<H", 64) + GOOD[36:], "8 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_recording_is_refused(name: str) -> None:
    file, why = BAD[name]
    assert why in refused(file)


def test_a_recording_is_bounded_while_it_is_read() -> None:
    """Silence of an hour is a file of some kilobytes."""
    out = io.BytesIO()
    soundfile.write(out, np.zeros(RATE * 3600, np.int16), RATE, format="FLAC")
    assert len(out.getvalue()) < 2**20
    assert "longer than 5 seconds" in refused(out.getvalue(), most_seconds=5)
    assert len(read_sound(GOOD, most_seconds=1)) == RATE


def test_a_pipe_that_told_no_size_is_read_to_its_end() -> None:
    assert len(read_sound(GOOD[:40] + b"\xff\xff\xff\xff" + GOOD[44:])) == RATE


def test_numbers_that_are_none_are_silence() -> None:
    out: Any = io.BytesIO()
    broken = np.full(RATE, np.nan, np.float32)
    broken[::2] = np.inf
    soundfile.write(out, broken, RATE, format="WAV", subtype="FLOAT")
    assert not read_sound(out.getvalue()).any()


def test_damage_is_refused_or_heard_and_never_a_crash() -> None:
    chance = random.Random(3)
    for _ in range(300):
        file = bytearray(GOOD[: chance.choice([30, 60, 4000, len(GOOD)])])
        for _ in range(chance.randrange(1, 8)):
            file[chance.randrange(min(len(file), 60))] = chance.randrange(256)
        try:
            heard = read_sound(bytes(file), most_seconds=60)
        except BadRequest as error:
            assert error.param == "file"
        else:
            assert np.isfinite(heard).all()
