"""A Whisper with random weights and a tokenizer of bytes, and recordings for it."""

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from millstream.bench.lab.random_model import TEMPLATE, byte_tokenizer

RATE = 16_000
MARKS = ["<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
MARKS += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
TIMES = [f"<|{at / 50:.2f}|>" for at in range(1501)]
END, FIRST_TIME = 256, 257 + len(MARKS)
ROOM = 48  # tokens of a slice


def make(folder: Path, *, seed: int = 7, multilingual: bool = True) -> WhisperForConditionalGeneration:
    """Saves a model and returns it."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"d_model": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 48, "num_mel_bins": 16}
    heads: dict[str, Any] = {
        f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")
    }
    config = WhisperConfig(
        vocab_size=FIRST_TIME + len(TIMES),
        max_target_positions=ROOM,
        init_std=0.5,
        pad_token_id=END,
        bos_token_id=END,
        eos_token_id=END,
        decoder_start_token_id=END + 1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **sizes,
        **heads,
    )
    model = WhisperForConditionalGeneration(config).eval()
    model.generation_config = _generation(multilingual)
    model.save_pretrained(folder)
    tokenizer = byte_tokenizer(TEMPLATE)
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    tokenizer.add_tokens(TIMES)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16).save_pretrained(folder)
    return model


def _generation(multilingual: bool) -> GenerationConfig:
    tongues: dict[str, Any] = {
        "lang_to_id": {"<|en|>": 258, "<|de|>": 259},
        "task_to_id": {"translate": 260, "transcribe": 261},
    }
    return GenerationConfig(
        decoder_start_token_id=257,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
        no_timestamps_token_id=FIRST_TIME - 1,
        max_length=ROOM,
        is_multilingual=multilingual,
        suppress_tokens=[0, 1, 2, *range(END + 1, FIRST_TIME - 1)],
        begin_suppress_tokens=[32, END],
        max_initial_timestamp_index=50,
        return_timestamps=True,
        **(tongues if multilingual else {}),
    )


def noise(seconds: float, seed: int = 1) -> NDArray[np.float32]:
    """Returns samples at 16 kHz: noise that gets louder and quieter."""
    count = int(seconds * RATE)
    loud = 0.3 + 0.2 * np.sin(np.arange(count) / 9000)
    return (np.random.default_rng(seed).standard_normal(count) * loud * 0.3).clip(-1, 1).astype(np.float32)


def wav(samples: NDArray[np.float32], rate: int = RATE, channels: int = 1) -> bytes:
    """Returns a WAV file of 16 bits; the same on all channels."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat((samples * 32767).astype("<i2"), channels).tobytes())
    return out.getvalue()
