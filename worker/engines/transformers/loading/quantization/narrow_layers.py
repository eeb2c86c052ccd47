"""Linear layers for CPUs with weights of eight or four bits, multiplied by torch's own kernels.

What they buy: a step of one stream is mostly the reading of weights, and these are a quarter or an eighth as long. The
inputs of such a layer are rounded to bfloat16, each row by itself, and sums are made in float32; so a row's numbers do
not depend on the rows beside it, and all that lies between the layers stays in the model's own number type. The figures
are in decision 62 of `docs/decisions/engine`.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch's operators are partly unknown to pyright)

from functools import cache
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from millstream.worker.engines.base import LoadFailed
from millstream.worker.engines.transformers.loading.device import works
from millstream.worker.engines.transformers.loading.packing import is_plain
from millstream.worker.engines.transformers.settings import Quantization

NarrowWeights = Literal["int8", "int4"]

_GROUP = 32  # weights of four bits that share a scale, as in the blocks of a GGUF file
_LARGEST = {"int8": 127, "int4": 15}  # numbers of a weight: -127 to 127, and 0 to 15
_MIDDLE = 8  # the kernel takes a weight of four bits as its number less this
_OUTPUTS = 16  # the kernel computes so many outputs together


class NarrowLinear(nn.Module):
    """`nn.Linear` for inference, with weights of few bits."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        bias: torch.Tensor | None = getattr(linear, "bias", None)
        self._bias = None if bias is None else bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        told = self._product(x.reshape(-1, self.in_features).to(torch.bfloat16)).to(x.dtype)
        if self._bias is not None:
            told = told.add_(self._bias)
        return told.view(*x.shape[:-1], self.out_features)

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        """Computes `[rows, out_features]` of bfloat16 rows."""
        raise NotImplementedError


class EightBitLinear(NarrowLinear):
    """Weights of eight bits, with a scale for each output."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.detach().float()
        most = _LARGEST["int8"]
        self._scales = (weight.abs().amax(1).clamp_(min=1e-30) / most).to(torch.bfloat16)
        numbers = (weight / self._scales.float().unsqueeze(1)).round_()
        self._weight = numbers.clamp_(-most, most).to(torch.int8)
        self._compute = torch.ops.aten._weight_int8pack_mm.default

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        return self._compute(x, self._weight, self._scales)


class FourBitLinear(NarrowLinear):
    """Weights of four bits; 32 neighbours share a scale and a least value."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        groups = linear.weight.detach().float().unflatten(1, (-1, _GROUP))
        least, most = groups.amin(2), groups.amax(2)
        scales = ((most - least) / _LARGEST["int4"]).clamp_(min=1e-30).to(torch.bfloat16)
        middles = (least + _MIDDLE * scales.float()).to(torch.bfloat16)
        numbers = (groups - middles.float().unsqueeze(2)).div_(scales.float().unsqueeze(2)).round_().add_(_MIDDLE)
        numbers = numbers.clamp_(0, _LARGEST["int4"]).flatten(1).to(torch.int32)
        self._packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)
        self._scales = torch.stack((scales, middles), 2).transpose(0, 1).contiguous()
        self._compute = torch.ops.aten._weight_int4pack_mm_for_cpu.default

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        return self._compute(x, self._packed, _GROUP, self._scales)


def narrowed(asked: Quantization | None, device: torch.device) -> NarrowWeights | None:
    """Returns which weights are made here after reading: on CPUs, whose kernels torch has itself."""
    return asked if device.type == "cpu" and (asked == "int8" or asked == "int4") else None


def narrow_linears(model: PreTrainedModel, kind: NarrowWeights) -> None:
    """Replaces the linear layers of a CPU model. Those whose width does not allow it stay as they are, and the layer
    that makes the logits keeps eight bits. Raises `LoadFailed` where there are none, or this torch cannot run them."""
    if not _runs(kind) or not _runs("int8"):
        raise LoadFailed(
            f"--quantization {kind} needs kernels that this build of torch or this processor lacks: leave it out, or "
            "use --dtype bfloat16.",
            param="quantization",
        )
    head: Any = model.get_output_embeddings()
    count = 0
    for parent in model.modules():
        for name, child in parent.named_children():
            if is_plain(child):
                four = kind == "int4" and child is not head
                if four and (child.in_features % _GROUP or child.out_features % _OUTPUTS):
                    continue
                setattr(parent, name, FourBitLinear(child) if four else EightBitLinear(child))
                count += 1
    if not count:
        raise LoadFailed(
            f"--quantization {kind} found no layer in float32 or bfloat16 to quantise: the checkpoint may be quantised "
            "already. Leave it out.",
            param="quantization",
        )


def is_narrow(model: nn.Module) -> bool:
    """Tells whether a model has linear layers of this module."""
    return any(isinstance(layer, NarrowLinear) for layer in model.modules())


@cache
def _runs(kind: NarrowWeights) -> bool:
    """Tells whether this processor and this build of torch run such layers, and rows do not depend on each other; tried
    once."""
    return works(f"weights in {kind}", _try_four if kind == "int4" else _try_eight, torch.bfloat16)


def _try_eight(dtype: torch.dtype) -> None:
    _try_out(EightBitLinear, dtype)


def _try_four(dtype: torch.dtype) -> None:
    _try_out(FourBitLinear, dtype)


@torch.no_grad()
def _try_out(kind: type[NarrowLinear], dtype: torch.dtype) -> None:
    outputs, inputs, rows = 3 * _OUTPUTS, 2 * _GROUP, 33
    plain = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")  # draws no random numbers
    plain.weight.copy_(torch.arange(outputs * inputs).sin().view(outputs, inputs))
    plain.bias.copy_(torch.linspace(-1, 1, outputs))
    x = torch.arange(rows * inputs).cos().view(rows, inputs).to(dtype)
    layer = kind(plain)
    told = layer(x)
    wanted = plain(x.float())
    if (told.float() - wanted).abs().max() > 0.05 * wanted.abs().max():
        raise ValueError("The layer computes something else than the one with full weights.")
    if not all(torch.equal(told[:count], layer(x[:count])) for count in (1, 2, 3, 5, 8, 17)):
        raise ValueError("A row's numbers depend on the rows beside it.")
