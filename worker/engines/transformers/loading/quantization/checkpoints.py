"""Tells what a checkpoint that is quantised already needs, before its weights are read: packages, a GPU, or nothing."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers publishes partly unknown types)

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.transformers.loading.quantization.narrow_layers import narrowed
from millstream.worker.engines.transformers.loading.quantization.unpacking import UNPACKED, unpacking
from millstream.worker.engines.transformers.settings import Quantization

_BITSANDBYTES = "bitsandbytes"  # also the method of old checkpoints that name none
_COMPRESSED = "compressed-tensors"
_ON_CARDS = frozenset(("bitnet", "eetq", "fbgemm_fp8", "fp_quant", "higgs", "nvfp4", "sinq", "spqr", "vptq"))
_READ_ON_CPUS = "GPTQ, AWQ, compressed-tensors, FP8 or bitsandbytes"


@dataclass(frozen=True, slots=True)
class _Needs:
    packages: tuple[str, ...]
    extra: str
    vllm: bool = False  # whether vLLM reads it without a package of its own


_NEEDS = {
    "gptq": _Needs(("gptqmodel", "optimum"), "gptq", vllm=True),
    "awq": _Needs(("gptqmodel",), "gptq", vllm=True),
    _COMPRESSED: _Needs(("compressed_tensors",), "compressed-tensors", vllm=True),
    _BITSANDBYTES: _Needs(("bitsandbytes",), "quantization"),
    "torchao": _Needs(("torchao",), "torchao"),
}


def told_of(config: PretrainedConfig) -> dict[str, Any] | None:
    """Returns what the checkpoint says of its quantised weights; None if it has none."""
    told: Any = getattr(config, "quantization_config", None)
    if told is None:
        told = getattr(config.get_text_config(), "quantization_config", None)
    if told is None:
        return None
    return dict(told) if isinstance(told, dict) else dict(told.to_dict())


def prepared(
    config: PretrainedConfig, asked: Quantization | None, device: torch.device, gguf: str | None = None
) -> dict[str, Any]:
    """Returns what `from_pretrained` is told so that a quantised checkpoint is read as it can be on `device`. Raises
    `LoadFailed` where it cannot. `asked`: the quantisation that the operator wants; `gguf`: the file, if it is one."""
    if gguf and asked is not None and narrowed(asked, device) is None:
        raise LoadFailed(
            f"{gguf} is a GGUF file, whose weights are made into full ones while they are read: leave --quantization "
            f"{asked} out, or give the model's checkpoint in safetensors.",
            param="quantization",
        )
    told = told_of(config)
    if told is None:
        return {}
    method = str(getattr(told.get("quant_method"), "value", told.get("quant_method")) or _BITSANDBYTES)
    if asked is not None:
        raise LoadFailed(
            f"This checkpoint's weights are quantised already ({method}): leave --quantization {asked} out.",
            param="quantization",
        )
    if device.type == "cpu":
        if method in UNPACKED:
            return {"config": unpacking(config, told)}
        if method in _ON_CARDS:
            raise LoadFailed(
                f"Weights quantised as {method!r} are computed by GPUs alone, and here the model goes to the CPU: use "
                f"a machine with a GPU, or a checkpoint in {_READ_ON_CPUS}.",
                param="model",
            )
    _check_known(method)
    _check_packages(method)
    if device.type == "cpu" and method == _COMPRESSED:
        config.quantization_config = told | {"dequantize": True}
        return {"config": config}
    return {}


def _check_known(method: str) -> None:
    known = {name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZATION_CONFIG_MAPPING}
    if method not in known:
        raise LoadFailed(
            f"This checkpoint's weights are quantised as {method!r}, which this version of transformers does not know. "
            f"Known are: {', '.join(sorted(name for name in known if not name.startswith('millstream')))}.",
            param="model",
        )


def _check_packages(method: str) -> None:
    needs = _NEEDS.get(method)
    missing = [package for package in needs.packages if find_spec(package) is None] if needs else []
    if needs and missing:
        plural = "s" if len(missing) > 1 else ""
        other = ", or serve it with --engine vllm" if needs.vllm else ""
        raise LoadFailed(
            f"This checkpoint's weights are quantised as {method!r}, which needs the package{plural} "
            f"{' and '.join(missing)}: `pip install 'millstream[{needs.extra}]'`{other}.",
            param="model",
        )
