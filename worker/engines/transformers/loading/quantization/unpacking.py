"""Reads GPTQ and AWQ checkpoints without the packages that made them: each weight is unpacked into plain numbers while
the model loads. For CPUs, where the packages' kernels would unpack it anew at every step.

Both keep whole numbers of a few bits in words of 32, and for each group of a row's weights a scale and a zero. GPTQ
packs along the inputs, and may give each input a group of its own choice (`g_idx`). AWQ packs along the outputs, in the
order that its kernels read.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false
# (transformers and torch publish partly unknown types, and of its quantizers wrong ones)

from typing import Any, ClassVar, cast

import torch
from transformers import PretrainedConfig
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from millstream.worker.engines.base import LoadFailed

UNPACKED = ("gptq", "awq")
_METHOD = "millstream_unpacking"
_WORD = 32  # bits
_WIDTHS = (2, 4, 8)  # bits of a number that fit a word without a rest
_AWQ_BITS = 4
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # the place in a word of each of eight outputs
_GPTQ_FORMATS = ("gptq", "gptq_v2")
_AWQ_FORMATS = ("gemm",)


def unpacking(config: PretrainedConfig, told: dict[str, Any]) -> PretrainedConfig:
    """Returns the configuration of a model whose GPTQ or AWQ weights are unpacked while they are read. `told`: its
    `quantization_config`. Raises `LoadFailed` for a packing that is not known here."""
    method = str(told["quant_method"])
    bits = int(told.get("bits", told.get("w_bit", _AWQ_BITS)))
    form = str(told.get("checkpoint_format") or told.get("version") or told.get("format") or "").lower()
    form = form or ("gptq" if method == "gptq" else "gemm")
    known = form in (_GPTQ_FORMATS if method == "gptq" else _AWQ_FORMATS)
    if not known or bits not in (_WIDTHS if method == "gptq" else (_AWQ_BITS,)):
        raise LoadFailed(
            f"This checkpoint packs its weights as {method.upper()} with {bits} bits in the format {form!r}, which is "
            "not read on CPUs. Give one of GPTQ with 2, 4 or 8 bits in the format `gptq` or `gptq_v2`, one of AWQ in "
            "the format `gemm`, or run it on a GPU.",
            param="model",
        )
    config.quantization_config = {"quant_method": _METHOD, "packing": method, "offset": int(form == "gptq")}
    return config


@register_quantization_config(_METHOD)
class UnpackingConfig(QuantizationConfigMixin):
    """The packing of a checkpoint's weights. `offset`: what is added to each zero, because the packer subtracted it."""

    def __init__(self, packing: str = "gptq", offset: int = 0, **_: Any) -> None:
        self.quant_method: Any = _METHOD
        self.packing, self.offset = packing, offset
        self.dequantize = True  # so the library takes the model for a plain one once it is read


@register_quantizer(_METHOD)
class UnpackingQuantizer(HfQuantizer):
    """The library's reader of weights, told to unpack."""

    requires_calibration = True
    serialized_names: ClassVar[dict[str, list[str]]] = {"weight": ["qweight", "qzeros", "scales", "g_idx"]}

    def get_load_operations(self) -> dict[str, Any]:
        return {"dequantize": Unpack}

    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


class Unpack(ConversionOps):
    """Makes one plain weight, or the weights of a layer's experts, out of the packed numbers."""

    def __init__(self, hf_quantizer: UnpackingQuantizer) -> None:
        self.hf_quantizer = hf_quantizer  # its presence tells the library to hand the numbers over in their own type

    def convert(self, input_dict: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Returns each weight under its pattern's name, as a list where the pattern stands for several."""
        told: Any = self.hf_quantizer.quantization_config
        made: dict[str, Any] = {}
        for name in [name for name in input_dict if name.endswith("qweight")]:
            start = name.removesuffix("qweight")
            columns: list[Any] = [input_dict.get(start + part) for part in ("qweight", "qzeros", "scales", "g_idx")]
            several: list[list[Any]] = [list(each) if isinstance(each, list) else [each] for each in columns]
            words, zeros, scales, groups = several
            groups = groups if len(groups) == len(words) else [None] * len(words)
            whole = [
                unpacked(told.packing, told.offset, *parts) for parts in zip(words, zeros, scales, groups, strict=True)
            ]
            made[start + "weight"] = whole if len(input_dict) > len(columns) or len(whole) > 1 else whole[0]
        return made or input_dict


def unpacked(
    packing: str,
    offset: int,
    words: torch.Tensor,
    zeros: torch.Tensor,
    scales: torch.Tensor,
    groups: torch.Tensor | None,
) -> torch.Tensor:
    """Returns the weight `[outputs, inputs]` in float32. `groups`: the group of each input, None if they follow one
    another."""
    if packing == "awq":
        order = list(_AWQ_ORDER)
        numbers = _numbers(words, _AWQ_BITS).view(*words.shape, -1)[..., order].flatten(1)
        zero = _numbers(zeros, _AWQ_BITS).view(*zeros.shape, -1)[..., order].flatten(1)
    else:
        bits = _WORD * zeros.shape[1] // scales.shape[1]
        numbers = _numbers(words.t(), bits).t()
        zero = _numbers(zeros, bits) + offset
    if groups is None:
        inputs = numbers.shape[0]
        groups = torch.arange(inputs) // (inputs // scales.shape[0])
    at = groups.long()
    return ((numbers - zero[at]) * scales.float()[at]).t().contiguous()


def _numbers(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Returns the numbers of `[rows, words]`, lowest bits first, as `[rows, words * numbers in a word]`."""
    shifts = torch.arange(0, _WORD, bits, dtype=torch.int32)
    each = torch.bitwise_right_shift(words.unsqueeze(-1), shifts) & (2**bits - 1)
    return cast(torch.Tensor, each.flatten(1))
