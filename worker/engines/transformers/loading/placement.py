"""Decides on which devices a model's layers go, and in which number type."""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch publish partly unknown types)

import re
from importlib.util import find_spec
from typing import Any

import torch
from transformers import PreTrainedModel

from millstream.common.errors import MillstreamError
from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.transformers.loading.device import free_memory, pick_device
from millstream.worker.engines.transformers.settings import EngineSettings, Quantization

_HOST = torch.device("cpu")


_PACKAGES: dict[Quantization, tuple[str, str]] = {
    "8bit": ("bitsandbytes", "quantization"),
    "4bit": ("bitsandbytes", "quantization"),
    "int8": ("torchao", "torchao"),
    "int4": ("torchao", "torchao"),
}
_GROUP = 32  # weights of four bits that share a scale
_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
_AMOUNT = re.compile(r"\d+(\.\d+)?[KMGT]i?B", re.IGNORECASE)


def check_placement(settings: EngineSettings, device: torch.device) -> None:
    """Raises `LoadFailed` for a --device-map or --max-gpu-memory that cannot have the effect it asks for."""
    if settings.device_map and settings.device_map not in _MAPS:
        try:
            pick_device(settings.device_map)
        except MillstreamError as error:
            names = ", ".join(_MAPS)
            message = f"--device-map {settings.device_map!r} is none of {names}, nor a device of this machine."
            raise LoadFailed(message, param="device_map") from error
    if not (most := settings.max_gpu_memory):
        return
    if not _AMOUNT.fullmatch(most):
        raise LoadFailed(f"--max-gpu-memory {most!r} is no amount: give one such as 20GiB.", param="max_gpu_memory")
    if device.type != "cuda":
        raise LoadFailed(
            f"--max-gpu-memory bounds what a model takes of each GPU, and here it goes to {device.type}: leave it out.",
            param="max_gpu_memory",
        )


def spread(model: PreTrainedModel) -> str | None:
    """Returns why a model whose layers lie on several devices is not batched: the pages of its cache lie on one."""
    places: dict[str, Any] = getattr(model, "hf_device_map", None) or {}
    return "has its layers on several devices" if len(set(map(str, places.values()))) > 1 else None


def placement(settings: EngineSettings, device: torch.device) -> dict[str, Any]:
    """Returns what `from_pretrained` is told of where the layers go."""
    if not (settings.device_map or settings.quantization or settings.max_gpu_memory):
        return {}
    if not settings.max_gpu_memory:
        return {"device_map": settings.device_map or {"": device}}
    most = dict.fromkeys(range(torch.cuda.device_count()), settings.max_gpu_memory)
    return {"device_map": settings.device_map or "auto", "max_memory": most | {"cpu": free_memory(_HOST)}}


def quantized(kind: Quantization) -> Any:
    """Returns the configuration by which weights are quantised while they are read. Raises `LoadFailed`."""
    package, extra = _PACKAGES[kind]
    if find_spec(package) is None:
        raise LoadFailed(
            f"--quantization {kind} needs the package {package}: `pip install 'millstream[{extra}]'`, "
            "or use a checkpoint that is already quantised.",
            param="quantization",
        )
    if package == "torchao":
        return _weight_only(kind)
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def _weight_only(kind: Quantization) -> Any:
    """Returns torchao's configuration for weights of eight bits, or of four in groups; inputs stay as they are, so that
    a row's numbers do not depend on its neighbours."""
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup
    from transformers import TorchAoConfig

    if kind == "int8":
        return TorchAoConfig(Int8WeightOnlyConfig(version=2))
    four: Any = getattr(torch, "int4")  # noqa: B009 (pyright does not know it)
    return TorchAoConfig(IntxWeightOnlyConfig(weight_dtype=four, granularity=PerGroup(_GROUP)))
