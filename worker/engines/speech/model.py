"""A loaded Whisper: what it hears in a slice, and the loop that writes it down token by token.

The rules on its tokens (times in pairs, tokens that are never said) are those of transformers' own `generate`. Chance,
where a temperature asks for it, is a function of the seed and the place, so every worker writes the same.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch publish partly unknown types)

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoFeatureExtractor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    WhisperTimeStampLogitsProcessor,
)

from millstream.common.errors import EngineError
from millstream.worker.engines.base import LoadFailed, LoadProgress
from millstream.worker.engines.sampling.seeded_noise import SeededNoise, noise_key
from millstream.worker.engines.speech.resampling import RATE
from millstream.worker.engines.speech.sound import Samples
from millstream.worker.engines.transformers.loading.failures import MODEL_ERRORS, explained
from millstream.worker.engines.transformers.loading.load import Loaded, load
from millstream.worker.engines.transformers.settings import EngineSettings

ScoreRule = Callable[[Any, torch.Tensor], torch.Tensor]  # (ids so far, scores of the next) to scores
_NEEDED = ("decoder_start_token_id", "no_timestamps_token_id", "eos_token_id")


@dataclass(frozen=True, slots=True)
class Chance:
    """The way in which tokens are chosen: at temperature 0 the likeliest. `place` tells slices apart."""

    temperature: float = 0.0
    seed: int = 0
    place: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """The tokens of a slice without the end token, their mean log-probability (that of the end token counts), and how
    probable it is that nobody speaks."""

    ids: list[int]
    logprob: float
    no_speech: float


class SpeechModel:
    """Blocks; one call at a time."""

    def __init__(self, loaded: Loaded, extractor: Any) -> None:
        """Raises `LoadFailed` for a model whose generation_config.json does not tell its special tokens."""
        self.loaded = loaded
        self._model: Any = loaded.model
        self._extractor = extractor
        own = self._model.generation_config
        lacking = [name for name in _NEEDED if getattr(own, name, None) is None]
        if lacking:
            raise LoadFailed(
                f"The generation_config.json of {loaded.name!r} lacks {', '.join(lacking)}: fetch the checkpoint's "
                "newest revision.",
                param="model",
            )
        tongues: dict[str, int] = getattr(own, "lang_to_id", None) or {}
        self.languages = {mark.strip("<|>"): id for mark, id in tongues.items()}
        self.tasks: dict[str, int] = getattr(own, "task_to_id", None) or {}
        self.start = int(own.decoder_start_token_id)
        self.end = int(own.eos_token_id[0] if isinstance(own.eos_token_id, list) else own.eos_token_id)
        self.first_time = int(own.no_timestamps_token_id) + 1
        self.room = int(self._model.config.max_target_positions)
        self._noise = SeededNoise(self._model.config.vocab_size, self._model.device)

    @property
    def multilingual(self) -> bool:
        """Tells whether it has to be told a language and a task."""
        return bool(self.languages) and bool(self.tasks)

    @torch.inference_mode()
    def hear(self, samples: Samples) -> Any:
        """Returns the encoder's states of a slice, 30 seconds at most; the rest of the 30 is silence."""
        features = self._extractor(samples, sampling_rate=RATE, return_tensors="pt").input_features
        return self._model.get_encoder()(features.to(self._model.device, self._model.dtype))

    @torch.inference_mode()
    def language_of(self, heard: Any) -> str:
        """Returns the code of the language that is spoken."""
        logits = self._read(heard, [self.start], None).logits[0, -1]
        codes = list(self.languages)
        return codes[int(logits[[self.languages[code] for code in codes]].argmax())]

    def opening(self, language: str, *, translate: bool) -> list[int]:
        """Returns the tokens with which a slice begins."""
        if not self.multilingual:
            return [self.start]
        return [self.start, self.languages[language], self.tasks["translate" if translate else "transcribe"]]

    def before(self, prompt: str) -> list[int]:
        """Returns the tokens of the text that came before, as many of the last ones as there is room for."""
        tokenizer = self.loaded.tokenizer
        mark = tokenizer.inner.convert_tokens_to_ids("<|startofprev|>")
        words = tokenizer.encode(f" {prompt.strip()}", special=False) if prompt.strip() else []
        plain = [id for id in words if id < self.end]  # what a client spells of special tokens is not said
        return [mark, *plain[1 - self.room // 2 :]] if plain and isinstance(mark, int) else []

    @torch.inference_mode()
    def write(
        self, heard: Any, prompt: list[int], opening: list[int], chance: Chance, given_up: Callable[[], bool]
    ) -> Written:
        """Returns what a slice says. `given_up` is asked before each token; told so, the rest is left out."""
        ids, first = [*prompt, *opening], len(prompt) + len(opening)
        rules = self._rules(first)
        output = self._read(heard, ids, None)
        no_speech = float(output.logits[0, len(prompt)].float().softmax(-1)[self.first_time - 2])
        told, count = 0.0, 0
        while len(ids) < self.room and not given_up():
            scores = output.logits[:, -1].float()
            for rule in rules:
                scores = rule(torch.tensor([ids], device=scores.device), scores)
            token = self._chosen(scores, chance, len(ids))
            told, count = told + float(scores.log_softmax(-1)[0, token]), count + 1
            if token == self.end:
                break
            ids.append(token)
            output = self._read(heard, [token], output.past_key_values)
        return Written(ids[first:], told / max(1, count), no_speech)

    def _read(self, heard: Any, ids: list[int], state: Any) -> Any:
        try:
            return self._model(
                encoder_outputs=heard,
                decoder_input_ids=torch.tensor([ids], device=self._model.device),
                past_key_values=state,
                use_cache=True,
            )
        except (torch.OutOfMemoryError, *MODEL_ERRORS) as error:
            raise EngineError(f"The engine failed on this job: {error}") from error

    def _rules(self, first: int) -> list[ScoreRule]:
        """Returns the rules for a slice whose own tokens begin at `first`."""
        own, device = self._model.generation_config, self._model.device
        rules: list[ScoreRule] = []
        if own.begin_suppress_tokens:
            rules.append(SuppressTokensAtBeginLogitsProcessor(own.begin_suppress_tokens, first, device=device))
        if own.suppress_tokens:
            rules.append(SuppressTokensLogitsProcessor(own.suppress_tokens, device=device))
        return [*rules, WhisperTimeStampLogitsProcessor(own, begin_index=first)]

    def _chosen(self, scores: torch.Tensor, chance: Chance, position: int) -> int:
        if chance.temperature <= 0:
            return int(scores[0].argmax())
        noise = self._noise.rows([noise_key(chance.seed, chance.place * self.room + position)])
        return int((scores / chance.temperature + noise)[0].argmax())


def load_speech_model(settings: EngineSettings, progress: LoadProgress) -> SpeechModel:
    """Loads the model and blocks meanwhile. Raises `MillstreamError` with the cause and the remedy."""
    loaded = load(settings, progress, encodes=True, hears=True)
    family = loaded.model.config.model_type
    if family != "whisper":
        raise LoadFailed(
            f"{settings.source.model!r} hears, and is of the family {family!r}: of those only Whisper is served.",
            param="model",
        )
    with explained(settings.source.model, loaded.model.device):
        model = SpeechModel(loaded, AutoFeatureExtractor.from_pretrained(loaded.path))
        model.hear(np.zeros(RATE, np.float32))  # a second of silence: another number of bands fails here
    return model
