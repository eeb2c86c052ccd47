"""Reads one rank's part of the weights, by the plan that transformers has for the architecture."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
# (transformers publishes partly unknown types)

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.generation.continuous_batching.utils import find_head_dim

from millstream.worker.engines.transformers.loading.trained import trained
from millstream.worker.engines.transformers.ranks.messages import Share


def read_shard(share: Share) -> PreTrainedModel:
    """Blocks until all ranks read theirs. Its configuration tells this rank's own key-value heads, because the cache
    is made after them."""
    if share.threads:
        torch.set_num_threads(share.threads)
    split = DistributedConfig(tp_size=share.size)
    told: dict[str, Any] = {"dtype": share.dtype or "auto", "distributed_config": split, **share.origin}
    model = trained(AutoModelForCausalLM, share.path, **told)
    model._device_mesh = None  # else the library's batching would hand requests from rank to rank by itself
    text = model.config.get_text_config()
    text.head_dim = find_head_dim(text)
    text.num_key_value_heads = share.kv_heads
    return model.eval()
