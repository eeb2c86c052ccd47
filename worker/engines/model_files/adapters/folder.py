"""Reads a LoRA adapter in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`. What cannot be computed
unmerged is refused by its name in the configuration, and so is what is not known here."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false
# (torch, transformers and safetensors publish partly unknown types)

import json
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers.utils.hub import cached_file

from millstream.common.errors import MillstreamError
from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.model_files.fetching.reasons import of_the_file, of_the_source

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_(A|B)(?:\.default)?\.weight")
# Fields that say nothing which the weights do not say, or that count in training alone.
_HARMLESS = frozenset(
    (
        "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
        "inference_mode", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "lora_dropout", "bias",
        "init_lora_weights", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
        "fan_in_fan_out", "eva_config", "runtime_config", "ensure_weight_tying", "megatron_core", "qalora_group_size",
    )
)  # fmt: skip
# Others (PiSSA, OLoRA, LoftQ, CorDA, …) change the base model's own weights.
_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True, slots=True)
class LowRank:
    """One layer's pair: `down` `[rank, in]` and `up` `[out, rank]`, float32. The scaling is in `up` already."""

    down: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """A LoRA adapter: its pairs by the name of the layer. `digest` is the same for the same numbers, wherever the
    files lie."""

    source: str
    digest: str
    layers: Mapping[str, LowRank]

    @property
    def rank(self) -> int:
        """Returns the largest rank of its pairs."""
        return max(pair.down.shape[0] for pair in self.layers.values())

    def memory(self, dtype: torch.dtype) -> int:
        """Returns the bytes of its pairs in the model's number format."""
        return sum(pair.down.numel() + pair.up.numel() for pair in self.layers.values()) * dtype.itemsize


def read_adapter(source: str) -> Adapter:
    """Reads an adapter from a folder or, by its id, from the hub. Raises `LoadFailed`."""
    with _explained(source):
        config = _config(source)
        if why := why_not(config):
            raise _refusal(source, why)
        halves = _halves(source, load_file(_file(source, WEIGHTS)))
    layers = {name: _pair(source, name, found, config) for name, found in sorted(halves.items())}
    if unmet := _unmet(config, layers):
        raise _refusal(source, f"its weights lack what `target_modules` names: {unmet!r}")
    return Adapter(source, _digest(layers), layers)


@contextmanager
def _explained(source: str) -> Generator[None]:
    """Turns the libraries' many errors into one `LoadFailed`."""
    try:
        yield
    except MillstreamError:
        raise
    except Exception as error:  # each library has its own kinds
        told = of_the_file(error, source) or of_the_source(error, source) or f"Cannot load {source!r}: {error}"
        raise LoadFailed(told, param="adapter") from error


def _config(source: str) -> Mapping[str, Any]:
    try:
        config = json.loads(Path(_file(source, CONFIG)).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _refusal(source, f"its {CONFIG} cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise _refusal(source, f"its {CONFIG} holds no object")
    return cast(dict[str, Any], config)


@dataclass(frozen=True, slots=True)
class AdapterRoom:
    """Room that adapters need beside a model: their highest rank, and the last names of the layers that they change."""

    rank: int = 0
    layers: frozenset[str] = frozenset()


def room_of(source: str) -> AdapterRoom:
    """Returns the room that an adapter needs, without reading its numbers; none where it cannot be read, which its
    loading will tell."""
    try:
        config = _config(source)
        rank = max(int(config.get("r", 8)), *map(int, (config.get("rank_pattern") or {}).values()), 0)
        with safe_open(_file(source, WEIGHTS), framework="pt") as weights:
            found = [_KEY.fullmatch(key) for key in weights.keys()]  # noqa: SIM118 (no mapping)
        return AdapterRoom(rank, frozenset(each[1].rpartition(".")[2] for each in found if each))
    except (MillstreamError, SafetensorError, OSError, ValueError, TypeError, AttributeError):
        return AdapterRoom()


def write_adapter(adapter: Adapter, folder: Path) -> None:
    """Writes an adapter so that nothing is left to be read out of its configuration: one rank, and a scaling of 1."""
    rank = adapter.rank
    weights: dict[str, torch.Tensor] = {}
    for name, pair in adapter.layers.items():
        short = rank - pair.down.shape[0]
        weights[f"base_model.model.{name}.lora_A.weight"] = functional.pad(pair.down, (0, 0, 0, short))
        weights[f"base_model.model.{name}.lora_B.weight"] = functional.pad(pair.up, (0, short))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS)
    ends = sorted({name.rpartition(".")[2] for name in adapter.layers})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "target_modules": ends}
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")


def why_not(config: Mapping[str, Any]) -> str | None:
    """Returns why an adapter of this configuration cannot be served beside its model; None if it can."""
    if config.get("peft_type") != "LORA":
        return f"its `peft_type` is {config.get('peft_type')!r}, and only LORA is served"
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        return f"its `task_type` is {config['task_type']!r}, and only CAUSAL_LM is served"
    if config.get("bias", "none") != "none":
        return f"its `bias` is {config['bias']!r}: biases that were trained are not served, only `none` is"
    if config.get("init_lora_weights", True) not in _BEGINNINGS:
        return f"its `init_lora_weights` is {config['init_lora_weights']!r}, which changes the model's own weights"
    odd = sorted(name for name, value in config.items() if value and name not in _HARMLESS)
    return f"it uses {', '.join(f'`{name}`' for name in odd)}" if odd else None


def _refusal(source: str, why: str) -> LoadFailed:
    return LoadFailed(
        f"Cannot serve the adapter {source!r} beside its model: {why}. Merge it into the model (peft's "
        "merge_and_unload) and serve the merged folder, or give another adapter.",
        param="adapter",
    )


def _file(source: str, name: str) -> str:
    """Returns the path of one of its files. Raises `LoadFailed` for one that is not there; the hub's errors as they
    are."""
    place = Path(source).expanduser()
    if place.is_dir() or source.startswith((".", "/", "~")):
        if not (place / name).is_file():
            raise LoadFailed(f"Cannot load the adapter {source!r}: there is no file {name} in it.", param="adapter")
        return str(place / name)
    return str(cached_file(source, name))


def _halves(source: str, weights: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in weights.items():
        found = _KEY.fullmatch(key)
        if found is None or tensor.ndim != 2:
            raise _refusal(source, f"its weight `{key}` is none of a linear layer's pair (lora_A, lora_B)")
        halves.setdefault(found[1], {})[found[2]] = tensor
    if not halves:
        raise _refusal(source, "it has no weights")
    return halves


def _pair(source: str, name: str, found: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> LowRank:
    if len(found) < 2 or found["A"].shape[0] != found["B"].shape[1] or not found["A"].numel():
        raise _refusal(source, f"the two halves of `{name}` (lora_A, lora_B) do not belong together")
    down = found["A"].float()
    up = found["B"].float() * _scaling(name, down.shape[0], config)
    if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise _refusal(source, f"`{name}` holds numbers that are not finite")
    return LowRank(down.contiguous(), up.contiguous())


def _scaling(name: str, rank: int, config: Mapping[str, Any]) -> float:
    """Returns alpha / r, or with rank stabilisation alpha / sqrt(r), as PEFT does."""
    alpha = float(_of_layer(config.get("alpha_pattern"), name, config.get("lora_alpha", 8)))
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _of_layer(pattern: Any, name: str, usual: Any) -> Any:
    """Returns what a pattern of PEFT says of a layer: the first key that the end of the layer's name matches."""
    return next((value for key, value in (pattern or {}).items() if re.match(rf"(.*\.)?({key})$", name)), usual)


def _unmet(config: Mapping[str, Any], layers: Mapping[str, LowRank]) -> list[str]:
    wanted = config.get("target_modules")
    if not isinstance(wanted, list):
        return []  # an expression, or "all-linear": the weights say what it matched
    return sorted(str(end) for end in wanted if not any(f".{name}".endswith(f".{end}") for name in layers))


def _digest(layers: Mapping[str, LowRank]) -> str:
    digest = sha256()
    for name, pair in layers.items():
        digest.update(f"{name}|{tuple(pair.down.shape)}|{tuple(pair.up.shape)}\0".encode())
        digest.update(pair.down.numpy().tobytes())
        digest.update(pair.up.numpy().tobytes())
    return digest.hexdigest()
