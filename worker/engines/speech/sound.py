"""A recording's bytes to what a model hears: one channel, 16,000 samples a second, bounded while it is read.

PCM in WAV is read with the standard library. Everything else needs the package soundfile, the extra `audio`.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (soundfile is loaded only where it is installed)

import io
import math
import wave
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from millstream.common.errors import BadRequest
from millstream.worker.engines.speech.resampling import RATE, resampled

Samples = NDArray[np.float32]

SHORTEST = 0.1  # seconds; less is nothing that could be said
_BLOCK = 10  # seconds that are read at once
_RATES = range(1000, 192_001)
_MOST_CHANNELS = 8
_UNTOLD = 0x7FFF0000  # bytes: what writes into a pipe says that there are as many as can be said
_FULL_SCALE = {1: 2.0**7, 2: 2.0**15, 3: 2.0**23, 4: 2.0**31}  # by bytes of a sample


def read_sound(file: bytes, most_seconds: float = 0.0) -> Samples:
    """Returns the samples, float32 from -1 to 1. `most_seconds`: how long the recording may be, 0 for any length.
    Raises `BadRequest` for what is no recording, or is too short or too long."""
    heard: list[Samples] = []
    count, most = 0, int(most_seconds * RATE) if most_seconds else math.inf
    for block in _blocks(file):
        heard.append(block)
        count += len(block)
        if count > most:
            raise _unfit(f"it is longer than {most_seconds:g} seconds, the most that is accepted. Send it in parts")
    if count < SHORTEST * RATE:
        raise _unfit(f"it holds {count / RATE:.2f} seconds of sound, and {SHORTEST} is the least")
    return np.concatenate(heard)


def _unfit(why: str) -> BadRequest:
    return BadRequest(f"The recording cannot be used: {why}.", param="file")


def _blocks(file: bytes) -> Iterator[Samples]:
    if not file:
        raise _unfit("it is empty")
    if file[:4] == b"RIFF" and file[8:12] == b"WAVE" and (pcm := _wave(file)) is not None:
        yield from resampled(_pcm_blocks(pcm), pcm.getframerate())
    else:
        yield from _foreign(file)


def _wave(file: bytes) -> wave.Wave_read | None:
    """Returns the reader of PCM in WAV; None for WAV with something else in it. Raises `BadRequest` for a head that is
    cut off, or tells what cannot be."""
    try:
        reader = wave.open(io.BytesIO(file), "rb")  # noqa: SIM115 - of bytes, nothing is left open
    except EOFError:
        raise _unfit("its WAV header is cut off") from None
    except (wave.Error, RuntimeError, ValueError, OSError) as error:  # a chunk that is longer than its file
        if "unknown format" in str(error):
            return None
        raise _unfit(f"its WAV header is damaged ({str(error) or 'its sizes do not fit'})") from None
    _check_shape(reader.getframerate(), reader.getnchannels())
    if reader.getsampwidth() not in _FULL_SCALE:
        raise _unfit(f"its samples have {reader.getsampwidth()} bytes; 1 to 4 can be read")
    return reader


def _check_shape(rate: int, channels: int) -> None:
    if rate not in _RATES:
        raise _unfit(f"it has {rate} samples a second; {_RATES.start} to {_RATES.stop - 1} can be read")
    if not 0 < channels <= _MOST_CHANNELS:
        raise _unfit(f"it has {channels} channels; at most {_MOST_CHANNELS} can be read")


def _pcm_blocks(reader: wave.Wave_read) -> Iterator[Samples]:
    """Yields the sound in blocks of `_BLOCK` seconds. Raises `BadRequest` for fewer samples than the header tells."""
    size, width = reader.getsampwidth() * reader.getnchannels(), reader.getsampwidth()
    told, read = reader.getnframes(), 0
    while raw := reader.readframes(_BLOCK * reader.getframerate()):
        whole = len(raw) // size
        read += whole
        yield _mono(_numbers(raw[: whole * size], width).reshape(-1, reader.getnchannels()))
    if read < told and told * size < _UNTOLD:
        raise _unfit(f"it ends after {read} of the {told} samples that its WAV header tells")


def _numbers(raw: bytes, width: int) -> Samples:
    """Returns PCM samples of so many bytes as float32: little-endian and signed, but those of one byte."""
    if width == 1:
        numbers = np.frombuffer(raw, np.uint8).astype(np.float32) - 128
    elif width == 3:
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        numbers = wide.view("<i4")[:, 0].astype(np.float32) / 256
    else:
        numbers = np.frombuffer(raw, f"<i{width}").astype(np.float32)
    return numbers / np.float32(_FULL_SCALE[width])


def _mono(frames: NDArray[Any]) -> Samples:
    """Returns the mean of the channels `[frames, channels]`. What is no number is silence."""
    calm = np.nan_to_num(frames, nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(calm, -1.0, 1.0).mean(axis=1, dtype=np.float32)


def _foreign(file: bytes) -> Iterator[Samples]:
    if find_spec("soundfile") is None:
        raise _unfit(
            "its worker reads PCM in WAV only. For FLAC, MP3 and OGG install `pip install 'millstream[audio]'` there"
        )
    soundfile: Any = import_module("soundfile")
    try:
        with soundfile.SoundFile(io.BytesIO(file)) as sound:
            _check_shape(sound.samplerate, sound.channels)
            blocks = sound.blocks(blocksize=_BLOCK * sound.samplerate, dtype="float32", always_2d=True)
            yield from resampled(map(_mono, blocks), sound.samplerate)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        why = str(getattr(error, "error_string", error)).rstrip(".")  # without the object that was to be opened
        raise _unfit(f"it is no WAV, FLAC, MP3 or OGG, or it is damaged ({why})") from None
