"""Attention on CPUs over the paged cache."""

from transformers import PretrainedConfig

CPU_ATTENTION = "millstream_cpu"


def usable(config: PretrainedConfig) -> bool:
    """Whether `CPU_ATTENTION` can stand in for the model's own attention."""
    return False
