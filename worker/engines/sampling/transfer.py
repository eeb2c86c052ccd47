"""Small values of a step, brought to the device."""

# pyright: reportUnknownMemberType=false
# (torch's operators are partly unknown to pyright)

from collections.abc import Sequence

import torch


def moved(values: Sequence[object], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """`values` on `device`. Does not wait for what a GPU has still to do, as a plain copy would."""
    if device.type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)
