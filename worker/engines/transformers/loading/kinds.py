"""Tells what a checkpoint is, before any weights are read: which head was trained, and so what may be asked of it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
)

from millstream.worker.engines.base import LoadFailed, LoadProgress, silent
from millstream.worker.engines.model_files.sample_models import SAMPLE_CHAT, SAMPLE_CHAT_NAME
from millstream.worker.engines.transformers.loading.failures import explained
from millstream.worker.engines.transformers.loading.load import locate, origin_of
from millstream.worker.engines.transformers.settings import SAMPLE_EMBEDDING, EngineSettings, ModelSource

ModelKind = Literal["causal", "encoder", "classifier", "token_classifier", "fill_mask", "seq2seq", "speech"]
"""What a model does: goes on with text, makes vectors, tells a text's class (or, with one class, a pair's score), tells
each token's class, fills gaps, turns a text into another, or writes down what is said."""
COMPUTING: frozenset[ModelKind] = frozenset(("encoder", "classifier", "token_classifier", "fill_mask"))

_BY_ENDING: tuple[tuple[str, ModelKind], ...] = (
    ("ForSequenceClassification", "classifier"),
    ("ForTokenClassification", "token_classifier"),
    ("ForMaskedLM", "fill_mask"),
    ("ForCausalLM", "causal"),
    ("LMHeadModel", "causal"),
)
_SENTENCE_TRANSFORMERS = "modules.json"


def found(settings: EngineSettings, progress: LoadProgress) -> EngineSettings:
    """Returns the settings with the place of the model's files, which are fetched where they are not here. Raises
    `LoadFailed`."""
    source = settings.source
    if source.model == SAMPLE_EMBEDDING:
        return settings
    return replace(settings, source=replace(source, place=locate(source, progress)))


def find_kind(source: ModelSource) -> ModelKind:
    """Returns the kind of a model by its name; blocks while its configuration is fetched. Raises `LoadFailed`."""
    if source.model in (SAMPLE_CHAT, SAMPLE_CHAT_NAME):
        return "causal"
    if source.model == SAMPLE_EMBEDDING:
        return "encoder"
    with explained(source.model, torch.device("cpu")):
        place = locate(source, silent)
        if place.gguf:
            return "causal"
        return kind_of(place.path, AutoConfig.from_pretrained(place.path, **origin_of(place, source)))


def kind_of(path: str, config: PretrainedConfig) -> ModelKind:
    """Returns the kind of the checkpoint in the folder `path`. Raises `LoadFailed` for a head that nothing
    here uses."""
    named = list(config.architectures or [])
    if any(name.endswith("ForSequenceClassification") for name in named):
        return "classifier"
    if _has(path, _SENTENCE_TRANSFORMERS):
        return "encoder"
    if "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return "causal"  # code of its own, under a name of its own
    for ending, kind in _BY_ENDING:
        if any(name.endswith(ending) for name in named):
            return kind
    return _by_type(named, config)


def _has(path: str, name: str) -> bool:
    return (Path(path) / name).is_file()


def _by_type(named: Sequence[str], config: PretrainedConfig) -> ModelKind:
    """Returns the kind of a checkpoint whose architecture's name does not tell it."""
    family = str(config.model_type)
    if config.is_encoder_decoder:
        if _among(named, family, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES):
            return "speech"
        if _among(named, family, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES):
            return "seq2seq"
    if any(name.endswith("ForConditionalGeneration") for name in named):
        return "causal"  # it sees images as well, and goes on with text like the others
    if any(name.endswith("ForPreTraining") for name in named) and family in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "fill_mask"
    if named and not any(name.endswith("Model") for name in named):
        raise LoadFailed(
            f"{', '.join(named)} has a head that nothing here uses. Served are ForCausalLM (chat, completions), "
            "encoders (embeddings), ForSequenceClassification, ForTokenClassification and ForMaskedLM.",
            param="model",
        )
    if named:
        return "encoder"  # a bare network: it has no head to go on with text
    return "encoder" if family in MODEL_FOR_MASKED_LM_MAPPING_NAMES else _of_text(family)


def _among(named: Sequence[str], family: str, mapping: Mapping[Any, str]) -> bool:
    """Tells whether the architecture, or the family where none is named, is one of the mapping's."""
    return any(name in mapping.values() for name in named) if named else family in mapping


def _of_text(family: str) -> ModelKind:
    if family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "causal"
    raise LoadFailed(
        f"This checkpoint's config.json names no architecture, and its type {family!r} tells none.", param="model"
    )
