"""Tells whether a model can be split over several ranks, before any weights are read."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch publish partly unknown types)

import torch
import torch.distributed as dist
from transformers import PreTrainedModel
from transformers.generation.continuous_batching.utils import find_num_key_value_heads

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.transformers.ranks.messages import BACKENDS
from millstream.worker.engines.transformers.ranks.settings import RankSettings
from millstream.worker.engines.transformers.settings import EngineSettings

_KEYS = ("k_proj", "qkv_proj", "query_key_value")  # the projections that make the keys


def ranks_of(settings: EngineSettings, told: RankSettings) -> int:
    """Returns over how many ranks the model goes: what --tensor-parallel says, or torchrun. Raises `LoadFailed` where
    they say different things."""
    wanted = settings.tensor_parallel
    if not told.launched:
        return wanted
    if wanted not in (1, told.world_size):
        raise _refused(f"--tensor-parallel {wanted} does not fit torchrun's {told.world_size} processes: leave it out")
    return told.world_size


def check_wishes(settings: EngineSettings, size: int, device: torch.device, *, encodes: bool) -> None:
    """Raises `LoadFailed` for settings that do not go together with several ranks."""
    for given, flag in (
        (encodes, "A model that encodes its prompt"),
        (settings.adapters, "--adapter"),
        (settings.quantization, "--quantization"),
        (settings.device_map, "--device-map"),
        (settings.max_gpu_memory, "--max-gpu-memory"),
        (settings.batching == "off", "--batching off"),
        (settings.source.model.endswith(".gguf"), "A GGUF file"),
    ):
        if given:
            raise _refused(f"{flag} does not go together with --tensor-parallel {size}: leave one of the two out")
    if dist.is_initialized():
        raise _refused("Another model of this process is split over ranks already: give this one a worker of its own")
    _check_device(settings, size, device)


def _check_device(settings: EngineSettings, size: int, device: torch.device) -> None:
    if device.type not in BACKENDS:
        raise _refused(f"--tensor-parallel runs on cuda and cpu, not on {device.type}: choose one with --device")
    if device.type == "cpu" and torch.accelerator.is_available():
        raise _refused("With --device cpu the ranks would still take the GPUs: hide them (CUDA_VISIBLE_DEVICES=)")
    if device.type == "cuda" and settings.device not in ("auto", "cuda"):
        raise _refused(f"The ranks take the GPUs in order, not {settings.device}: choose with CUDA_VISIBLE_DEVICES")
    if device.type == "cuda" and torch.cuda.device_count() < size and not RankSettings().launched:
        there = torch.cuda.device_count()
        raise _refused(f"--tensor-parallel {size} needs {size} GPUs, and this machine shows {there}")


def kv_heads_of_each(sketch: PreTrainedModel | None, unbatched: str | None, size: int) -> int:
    """Returns how many key-value heads each rank has. `sketch`: the model without weights; `unbatched`: why its
    sequences are not run together. Raises `LoadFailed` for a model that cannot be split."""
    if sketch is None:
        raise _refused("A model with code of its own cannot be split over ranks: leave out --tensor-parallel")
    name = type(sketch).__name__
    if unbatched is not None:
        raise _refused(f"{name} {unbatched}, and over several ranks only what is batched runs")
    if getattr(sketch.config, "quantization_config", None) is not None:
        raise _refused(f"The weights of {name} are quantised already: --engine vllm can split them")
    plan = sketch.tp_plan or {}
    if not any(rule.rsplit(".", 1)[-1] in _KEYS and way == "colwise" for rule, way in plan.items()):
        raise _refused(f"transformers has no plan for splitting the attention heads of {name}: try --engine vllm")
    text = sketch.config.get_text_config()
    heads, kv_heads = text.num_attention_heads, find_num_key_value_heads(text)
    if heads % size or kv_heads % size:
        fits = ", ".join(str(n) for n in range(2, kv_heads + 1) if not (heads % n or kv_heads % n)) or "none"
        raise _refused(
            f"{name} has {heads} attention heads and {kv_heads} key-value heads, which {size} ranks cannot share out "
            f"evenly; numbers that fit: {fits}"
        )
    return kv_heads // size


def _refused(why: str) -> LoadFailed:
    return LoadFailed(f"{why}.", param="tensor_parallel")
