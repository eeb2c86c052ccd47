"""The steps from a network's outputs to a vector, as a model's own sentence-transformers files say."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
# (transformers and torch publish partly unknown types)

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils.hub import cached_file


@dataclass(frozen=True, slots=True)
class Recipe:
    """The steps from the network's outputs to a vector. `dense`: projections `(weight, bias, activation)` after
    pooling."""

    pooling: str = "mean"  # mean, cls, lasttoken, max, mean_sqrt_len_tokens, weightedmean
    dense: tuple[tuple[torch.Tensor, torch.Tensor | None, str], ...] = ()
    normalise: bool = True
    longest: int | None = None  # tokens
    matryoshka: bool = False


ACTIVATIONS = {
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


def read_recipe(path: str, config: PretrainedConfig, device: torch.device) -> Recipe:
    """Returns the recipe in `modules.json` and the files it names."""
    text = config.get_text_config()
    modules = _json(path, "modules.json")
    recipe = Recipe(
        pooling="lasttoken" if _looks_back_only(config) else "mean",
        normalise=modules is None,
        longest=(_json(path, "sentence_bert_config.json") or {}).get("max_seq_length"),
        matryoshka=bool(getattr(text, "is_matryoshka", False) or getattr(text, "matryoshka_dimensions", None)),
    )
    if (_json(path, "config_sentence_transformers.json") or {}).get("truncate_dim"):
        recipe = replace(recipe, matryoshka=True)
    for module in modules or []:
        recipe = _with_module(recipe, path, module, device)
    return recipe


def _looks_back_only(config: PretrainedConfig) -> bool:
    """Tells whether only the last state has seen the whole input."""
    family = str(config.model_type)
    decodes = family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and family not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "CausalLM" in "".join(config.architectures or []) or decodes


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
    if activation not in ACTIVATIONS:
        raise ValueError(f"the model's dense layer wants the unknown activation {activation!r}")
    return weights["linear.weight"].float(), None if bias is None else bias.float(), activation


def _json(path: str, name: str) -> Any:
    """Returns a JSON file of the model, local or from the hub, or None if it has none."""
    found = cached_file(
        path, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return json.loads(Path(found).read_text(encoding="utf-8")) if found else None
