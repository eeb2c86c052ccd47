"""What this machine can do: device, number format, memory."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateUsage=false
# (torch's device modules are partly unknown to pyright)

from collections.abc import Sequence

import psutil
import torch

from common.errors import MillstreamError


class NoSuchDevice(MillstreamError):
    code = "invalid_request"


def pick_device(wanted: str) -> torch.device:
    """`auto` is the first accelerator torch has, else the CPU. Raises if the named one is not there."""
    if wanted != "auto":
        return _named(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if torch.xpu.is_available():
        return torch.device("xpu", 0)
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _named(wanted: str) -> torch.device:
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise NoSuchDevice(
            f"Unknown device {wanted!r}: use auto, cpu, cuda, cuda:N, mps or xpu.", param="device"
        ) from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "xpu": torch.xpu.is_available()}
    there["mps"] = torch.backends.mps.is_available()
    if not there.get(device.type, False):
        raise NoSuchDevice(
            f"This machine (or this build of torch, {torch.__version__}) has no {device.type!r} device. "
            "Use --device cpu, or install the torch build for your accelerator.",
            param="device",
        )
    return device


def pick_dtype(wanted: str, device: torch.device, parameters: int) -> torch.dtype | None:
    """None lets the checkpoint decide (on accelerators). On CPUs `auto` is float32, which keeps seeded and greedy
    outputs the same in any batch and after any continuation; bfloat16 rounds differently from batch to batch. It is
    taken where float32 would fill more than half of the free memory and the processor computes in it."""
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    if device.type != "cpu":
        return None
    fits = 4 * parameters <= free_memory(device) // 2
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.float32 if fits or not fast else torch.bfloat16


def moved(values: Sequence[object], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """`values` on `device`. Does not wait for what a GPU has still to do, as a plain copy would."""
    if device.type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on `device`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
