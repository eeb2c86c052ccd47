"""The abilities of this machine: device, number format, memory, and what its processor and build of torch cannot do."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateUsage=false
# (torch's device modules are partly unknown to pyright)

from collections.abc import Callable, Generator
from contextlib import contextmanager

import psutil
import structlog
import torch

from millstream.common.errors import MillstreamError

# What torch raises for an operator that its build lacks, or that the processor cannot run.
_REFUSALS = (AttributeError, RuntimeError, TypeError, ValueError)

log = structlog.stdlib.get_logger(part="machine")


class NoSuchDevice(MillstreamError):
    code = "invalid_request"


def pick_device(wanted: str) -> torch.device:
    """Returns the device: `auto` is the first accelerator torch has, else the CPU. Raises if the named one is not
    there."""
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
    """Returns the number format; None lets the checkpoint decide (on accelerators). On CPUs `auto` is float32, which
    keeps seeded and greedy outputs the same in any batch and after any continuation; bfloat16 rounds differently from
    batch to batch. It is taken where float32 would fill more than half of the free memory and the processor computes in
    it."""
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]
    if device.type != "cpu":
        return None
    fits = 4 * parameters <= free_memory(device) // 2
    return torch.float32 if fits or not computes_in_bfloat16() else torch.bfloat16


def computes_in_bfloat16() -> bool:
    """Tells whether the processor has instructions for bfloat16 and torch uses them; without, bfloat16 is slow."""
    try:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_bfloat16_instructions()
    except _REFUSALS:  # a build without oneDNN
        return False


def _has_bfloat16_instructions() -> bool:
    """Builds of torch differ in what they can tell about a processor: what one cannot tell counts as not there."""
    on_x86 = (getattr(torch.cpu, name, bool) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    on_arm = getattr(torch.cpu, "get_capabilities", dict[str, bool])().get("bf16", False)
    return bool(on_arm) or any(supported() for supported in on_x86)


def works(what: str, attempt: Callable[[torch.dtype], None], dtype: torch.dtype) -> bool:
    """Tells whether `attempt` runs in this number format. If not, `what` is passed over with a log line."""
    try:
        attempt(dtype)
    except _REFUSALS as error:
        why = str(error).partition("\n")[0]
        log.warning("passed_over", what=what, dtype=str(dtype).removeprefix("torch."), error=why)
        return False
    return True


def free_memory(device: torch.device) -> int:
    """Returns how many bytes can still be allocated on `device`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@contextmanager
def without_autograd(device: torch.device) -> Generator[None]:
    """Has torch note nothing for gradients. On CPUs not even versions of tensors, which is a few microseconds less for
    each of a step's thousand small operators; such tensors cannot be changed outside."""
    with torch.inference_mode() if device.type == "cpu" else torch.no_grad():
        yield
