"""The choice between vLLM and transformers, where nobody has made it."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# (vLLM is installed in few environments)

from importlib.util import find_spec
from typing import Any, cast


def vllm_on_gpu() -> bool:
    """Tells whether vLLM is installed and has a GPU here. Takes seconds where it is."""
    if find_spec("vllm") is None:
        return False
    from vllm.platforms import current_platform

    platform = cast(Any, current_platform)
    return bool(platform.is_cuda_alike() or platform.is_xpu())
