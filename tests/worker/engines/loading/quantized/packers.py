"""Packs weights as GPTQ's and AWQ's own programs do, number by number, and keeps what they stand for."""

from dataclasses import dataclass, field
from typing import Any

import torch

AWQ_PLACES = (0, 2, 4, 6, 1, 3, 5, 7)  # the output whose number is at each place of a word, lowest bits first


@dataclass
class Packed:
    """The tensors of a checkpoint, and the plain weights that they stand for."""

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    plain: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class Rounded:
    """A weight `[outputs, inputs]` as whole numbers, with a scale and a zero for each group: `[groups, outputs]`."""

    numbers: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor
    groups: torch.Tensor  # of each input

    def plain(self) -> torch.Tensor:
        return ((self.numbers.t() - self.zeros[self.groups]) * self.scales[self.groups].float()).t().contiguous()


def rounded(weight: torch.Tensor, bits: int, width: int, groups: torch.Tensor | None = None) -> Rounded:
    """Rounds a weight to so many bits, `width` inputs to a group."""
    inputs = weight.shape[1]
    groups = torch.arange(inputs) // width if groups is None else groups
    most = 2**bits - 1
    scales, zeros = [], []
    for group in range(inputs // width):
        part = weight[:, groups == group]
        low, high = part.amin(1), part.amax(1)
        scale = ((high - low) / most).to(torch.float16).clamp(min=1e-4)
        scales.append(scale)
        zeros.append((-low / scale.float()).round().clamp(1, most).int())
    scale, zero = torch.stack(scales), torch.stack(zeros)
    numbers = (weight.t() / scale[groups].float() + zero[groups]).round().clamp(0, most).int().t()
    return Rounded(numbers.contiguous(), scale, zero, groups)


def word(numbers: list[int], bits: int) -> int:
    """Puts numbers into a word of 32 bits, the first lowest, and returns it as a signed number."""
    whole = sum(number << (bits * place) for place, number in enumerate(numbers))
    return whole - 2**32 if whole >= 2**31 else whole


def rows_of_words(table: torch.Tensor, bits: int, places: tuple[int, ...] | None = None) -> torch.Tensor:
    """Packs `[rows, columns]` along the columns."""
    many = 32 // bits
    order = places or tuple(range(many))
    packed = [
        [word([row[start + place] for place in order], bits) for start in range(0, len(row), many)]
        for row in table.tolist()
    ]
    return torch.tensor(packed, dtype=torch.int32)


def as_gptq(name: str, weight: torch.Tensor, packed: Packed, bits: int = 4, width: int = 32, **how: Any) -> None:
    """Adds a layer in GPTQ's format. `first`: the format that subtracts one from each zero; `ordered`: inputs are in
    groups by their importance."""
    inputs = weight.shape[1]
    groups = torch.randperm(inputs) // width if how.get("ordered") else None
    made = rounded(weight, bits, width, groups)
    packed.plain[f"{name}.weight"] = made.plain()
    packed.tensors |= {
        f"{name}.qweight": rows_of_words(made.numbers, bits).t().contiguous(),
        f"{name}.qzeros": rows_of_words(made.zeros - int(how.get("first", True)), bits),
        f"{name}.scales": made.scales,
        f"{name}.g_idx": made.groups.int(),
    }


def as_awq(name: str, weight: torch.Tensor, packed: Packed, width: int = 32) -> None:
    """Adds a layer in AWQ's format `gemm`."""
    made = rounded(weight, 4, width)
    packed.plain[f"{name}.weight"] = made.plain()
    packed.tensors |= {
        f"{name}.qweight": rows_of_words(made.numbers.t().contiguous(), 4, AWQ_PLACES),
        f"{name}.qzeros": rows_of_words(made.zeros, 4, AWQ_PLACES),
        f"{name}.scales": made.scales,
    }
