"""Decides on which devices a model's layers go, and in which number type."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch publish partly unknown types)

from importlib.util import find_spec
from typing import Any

import torch
from transformers import PreTrainedModel

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.transformers.loading.device import free_memory
from millstream.worker.engines.transformers.settings import EngineSettings

_HOST = torch.device("cpu")


def check_ranks(settings: EngineSettings) -> None:
    """Raises `LoadFailed` where several processes would each be a worker: the library hands requests to the first of
    them only, and what the others claimed would never be answered."""
    if settings.tensor_parallel or torch.distributed.is_torchelastic_launched():
        raise LoadFailed(
            "The transformers engine is one process; with --tensor-parallel, or under torchrun, it would be several. "
            "For a model over several GPUs: --engine vllm --engine-args tensor-parallel-size=N, or --device-map auto, "
            "which runs its layers in turn.",
            param="tensor_parallel",
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


def quantized(kind: str) -> Any:
    """Returns the configuration by which weights are quantised while they are read. Raises `LoadFailed`."""
    if find_spec("bitsandbytes") is None:
        raise LoadFailed(
            f"--quantization {kind} needs the package bitsandbytes: `pip install 'millstream[quantization]'`, "
            "or use a checkpoint that is already quantised."
        )
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
