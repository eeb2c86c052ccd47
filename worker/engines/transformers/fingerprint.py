"""Names what a model's tokens depend on, so that a job that one worker began is gone on with only by one like it. Tells
whether that is all that they depend on."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from millstream.worker.engines.model_files.weights_digest import weights_of, words_of
from millstream.worker.engines.transformers.loading.load import Loaded
from millstream.worker.engines.transformers.loading.quantization.narrow_layers import is_narrow
from millstream.worker.engines.transformers.settings import EngineSettings


def fingerprint(
    loaded: Loaded, settings: EngineSettings, defaults: Mapping[str, float], adapter: str | None = None
) -> str:
    """Returns the same for the same weights, arithmetic, tokenizer, chat template, sampling defaults and adapter (its
    digest), whatever the model is called and wherever its files lie."""
    source = settings.source.model
    parts = (
        weights_of(Path(loaded.path)) or f"{source}|{loaded.revision}",
        str(loaded.model.dtype).removeprefix("torch."),
        f"{settings.quantization}{' for CPUs' if is_narrow(loaded.model) else ''}",
        str(adapter),
        *(() if loaded.unbatched is None else ("one at a time",)),  # rounds in other places than a batch does
        *(() if loaded.ranks is None else (f"{loaded.ranks.size} ranks",)),  # sums are added up in another order
        *words_of(loaded.tokenizer),
        json.dumps(dict(defaults), sort_keys=True),
    )
    return "fp_" + sha256("\0".join(parts).encode()).hexdigest()[:12]


def is_exact(loaded: Loaded) -> bool:
    """Tells whether a row's numbers are the same in any batch: not in shorter types than float32, not as sums over
    several ranks, and not with quantised layers that round their inputs too, or in shorter types."""
    told: Any = getattr(loaded.model.config, "quantization_config", None)
    weights_alone = told is None or getattr(told, "quant_method", "") == "torchao"
    return loaded.model.dtype == torch.float32 and loaded.ranks is None and weights_alone
