"""Attention on NVIDIA GPUs over the paged cache, with nothing installed but torch.

Without a package for flash attention the library multiplies every query of the batch with every key of the batch and
masks most of it out again, and captures no CUDA graphs. Here steps of single tokens read each sequence's own pages, so
that they can be captured, and prompts go through the flash attention that torch itself brings.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers publish partly unknown types)

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from math import ceil
from typing import Any

import torch
from transformers import AttentionInterface, ContinuousBatchingConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

from millstream.worker.engines.transformers.loading.attention import usable

GPU_ATTENTION = "millstream_gpu"
_HALVES = (torch.float16, torch.bfloat16)
_WIDEST = 256  # of a head


def fits(model: PreTrainedModel) -> bool:
    """Tells whether `GPU_ATTENTION` can stand in for the model's own attention, and nothing better is installed."""
    text = model.config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    known = usable(model.config) and model.dtype in _HALVES and width % 8 == 0 and width <= _WIDEST
    return known and _possible(model.device) and not _installed()


def _possible(device: torch.device) -> bool:
    if device.type != "cuda" or torch.version.hip is not None or find_spec("triton") is None:
        return False
    return torch.backends.cuda.is_flash_attention_available() and torch.cuda.get_device_capability(device) >= (8, 0)


def _installed() -> bool:
    return is_flash_attn_3_available(kernels_fallback_ok=True) or is_flash_attn_2_available(kernels_fallback_ok=True)


def plan_graphs(config: ContinuousBatchingConfig, attention: str | None, context: int) -> None:
    """Edit the resolved `config`: where attention can read pages by itself, steps of single tokens are captured, for
    sequences of any length up to `context`; steps that read prompts are not, because each of their many sizes would
    hold all streams up while it is captured. Then a step is also prepared while the GPU computes the one before."""
    if not config.max_blocks_per_request and attention != GPU_ATTENTION:
        return
    config.max_blocks_per_request = ceil((context + 1) / config.page_size)  # one token is computed past the end
    config.use_cuda_graph = (False, True)
    config.use_async_batching = True
    config.q_padding_interval_size = config.kv_padding_interval_size = 1


class Tables:
    """Takes the place of the cache's way to fill the block table: one copy to the GPU a step, not one a sequence."""

    def __init__(self, cache: Any, table: Callable[[], torch.Tensor]) -> None:
        """`table()`: where the step that is prepared has its table, `[1, slots, most pages]`."""
        (self._allocator,) = cache.cache_allocators.values()
        self._table = table
        self._rows: list[list[int]] = []

    def note(self, request_id: str, past: int, new: int, row: torch.Tensor) -> None:
        """The next row of this step is this sequence's."""
        self._rows.append(self._allocator.block_table[request_id])

    def write(self) -> None:
        """Called when all rows of a step are known; the rest of the table is -1 already."""
        rows, self._rows = self._rows, []
        if rows:
            most = max(map(len, rows))
            stride = self._allocator.block_physical_stride // self._allocator.tokens_per_page
            padded = [[page * stride for page in row] + [-1] * (most - len(row)) for row in rows]
            self._table()[0, : len(rows), :most] = torch.tensor(padded, dtype=torch.int32)


def gpu_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    """Computes attention of `query` `[1, heads, tokens, width]` over `key` and `value`
    `[1, kv heads, tokens, width]`, and returns `[1, tokens, heads, width]`. Outside a paged
    batch (prompt scoring) it is the library's own attention."""
    if (cache := options.pop("cache", None)) is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    scale: float = options["scaling"]
    key, value = cache.update(key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=options)
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))  # [tokens, heads, width]
    if options.get("block_table") is not None:
        attend = import_module("millstream.worker.engines.transformers.loading.paged_decoding").attend
        pages = (options["k_cache"], options["v_cache"])
        told = attend(query, (key, value), pages, options["block_table"], options["cu_seq_lens_k"], scale)
    else:
        told = _read(query, key, value, options, scale)
    return told.unsqueeze(0), None


def _read(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: dict[str, Any], scale: float
) -> torch.Tensor:
    """Several new tokens of a sequence at once: each sees the older ones and those before it."""
    lengths = (options["cu_seq_lens_q"], options["cu_seq_lens_k"], options["max_length_q"], options["max_length_k"])
    flash = torch.ops.aten._flash_attention_forward
    return flash(query.contiguous(), key.contiguous(), value.contiguous(), *lengths, 0.0, True, False, scale=scale)[0]


AttentionInterface.register(GPU_ATTENTION, gpu_attention)  # no mask is registered: none is built
