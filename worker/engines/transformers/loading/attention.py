"""Attention on CPUs over the paged cache: each sequence reads its own pages only.

The library's own way on CPUs multiplies every query of the batch with every key of the batch and masks most of it out.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch and transformers publish partly unknown types)

from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from millstream.worker.engines.transformers.loading.device import works

CPU_ATTENTION = "millstream_cpu"
# Decoders whose attention is exactly softmax(q·k)·v over all earlier tokens, and which hand our `paged` on to it.
_KNOWN = frozenset(
    ("llama", "mistral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "mixtral", "smollm3", "granite", "olmo2", "phi3")
)


def usable(config: PretrainedConfig) -> bool:
    """Tells whether `CPU_ATTENTION` can stand in for the model's own attention."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    windowed = bool(getattr(text, "sliding_window", None)) and getattr(text, "use_sliding_window", True)
    return text.model_type in _KNOWN and kinds == {"full_attention"} and not windowed


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Views of one layer's cache: by token `[tokens, heads, width]` and by page `[pages, page size, heads, width]`."""

    keys: torch.Tensor
    values: torch.Tensor
    key_pages: torch.Tensor
    value_pages: torch.Tensor


def layer_views(cache: Any) -> dict[int, LayerCache]:
    """Returns the views of each layer of the library's paged cache, all of whose layers are of one kind."""
    (allocator,) = cache.cache_allocators.values()
    return {
        layer: LayerCache(*allocator._kv_token_views[layer], *allocator._kv_page_views[layer])
        for layer in allocator._kv_token_views
    }


@dataclass(frozen=True, slots=True)
class Prefill:
    """Several new tokens of one sequence: `[start, end)` of the batch's tokens, after `past` older ones in `pages`."""

    start: int
    end: int
    past: int
    pages: torch.Tensor
    mask: torch.Tensor | None  # None: no past, plain causal


@dataclass(frozen=True, slots=True)
class Decode:
    """One new token of each of several sequences: at `rows` of the batch's tokens (None: these are all tokens), with
    pages `[n, most]` and the mask `[n, 1, 1, most * page size]` of what is really theirs."""

    rows: torch.Tensor | None
    pages: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class Paged:
    """The inputs of one step's attention, the same for all layers."""

    layers: dict[int, LayerCache]
    write: torch.Tensor  # where the new tokens' keys and values go
    decode: Decode | None
    prefills: list[Prefill]


def cpu_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    """Computes attention from `query` `[1, heads, tokens, width]`, `key` and `value` `[1, kv heads, tokens, width]` to
    `[1, tokens, heads, width]`. Outside a paged batch (prompt scoring) it is the library's own attention."""
    paged: Paged | None = options.pop("paged", None)
    if paged is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    asked, new_keys, new_values = (each[0].transpose(0, 1) for each in (query, key, value))
    told = attend(asked, new_keys, new_values, paged, paged.layers[module.layer_idx], options["scaling"])
    return told.unsqueeze(0), None


def attend(
    asked: torch.Tensor,
    new_keys: torch.Tensor,
    new_values: torch.Tensor,
    paged: Paged,
    layer: LayerCache,
    scale: float,
) -> torch.Tensor:
    """Writes the new keys and values `[tokens, kv heads, width]` to their pages, and returns the attention of `asked`
    `[tokens, heads, width]` in the same shape."""
    layer.keys.index_copy_(0, paged.write, new_keys)
    layer.values.index_copy_(0, paged.write, new_values)
    if paged.decode is not None and paged.decode.rows is None:
        return _decode(asked, layer, paged.decode, scale)
    told = torch.empty_like(asked)
    if paged.decode is not None:
        told[paged.decode.rows] = _decode(asked[paged.decode.rows], layer, paged.decode, scale)
    for part in paged.prefills:
        span = slice(part.start, part.end)
        fresh = (new_keys[span], new_values[span])
        told[span] = _prefill(asked[span], fresh, layer, part, scale)
    return told


def _decode(asked: torch.Tensor, layer: LayerCache, plan: Decode, scale: float) -> torch.Tensor:
    """Computes the attention of `asked` `[n, heads, width]`; the queries that share a key head go as one query of
    several rows."""
    n, heads, width = asked.shape
    kv_heads = layer.keys.shape[1]
    keys, values = (
        pages.index_select(0, plan.pages.view(-1)).view(n, -1, kv_heads, width).transpose(1, 2)
        for pages in (layer.key_pages, layer.value_pages)
    )
    grouped = asked.reshape(n, kv_heads, heads // kv_heads, width)
    return sdpa(grouped, keys, values, attn_mask=plan.mask, scale=scale).reshape(n, heads, width)


def _prefill(
    asked: torch.Tensor, fresh: tuple[torch.Tensor, torch.Tensor], layer: LayerCache, plan: Prefill, scale: float
) -> torch.Tensor:
    """Computes the attention of a prompt: `asked` `[new, heads, width]`."""
    new, heads, width = asked.shape
    kv_heads = layer.keys.shape[1]
    if plan.mask is None:
        keys, values = fresh
    else:
        length = plan.past + new
        keys, values = (
            pages.index_select(0, plan.pages).view(-1, kv_heads, width)[:length]
            for pages in (layer.key_pages, layer.value_pages)
        )
    groups = heads // kv_heads
    grouped = asked.transpose(0, 1).reshape(kv_heads, groups, new, width)
    keys, values = (x.transpose(0, 1).unsqueeze(1).expand(-1, groups, -1, -1) for x in (keys, values))
    told = sdpa(grouped, keys, values, attn_mask=plan.mask, is_causal=plan.mask is None, scale=scale)
    return told.reshape(heads, new, width).transpose(0, 1)


@dataclass(frozen=True, slots=True)
class Span:
    """One sequence in a step: `new` tokens after `past` older ones, in these pages."""

    past: int
    new: int
    pages: list[int]


def plan_attention(
    layers: dict[int, LayerCache], write: torch.Tensor, spans: list[Span], page_size: int, dtype: torch.dtype
) -> Paged:
    """Lay out one step's attention. `spans` are in the order of the batch's tokens."""
    rows: list[int] = []
    singles: list[Span] = []
    prefills: list[Prefill] = []
    at = 0
    for span in spans:
        if span.new == 1:
            rows.append(at)
            singles.append(span)
        else:
            prefills.append(_plan_prefill(span, at, page_size, dtype))
        at += span.new
    decode = _plan_decode(singles, rows if prefills else None, page_size, dtype) if singles else None
    return Paged(layers, write, decode, prefills)


def _plan_decode(spans: list[Span], rows: list[int] | None, page_size: int, dtype: torch.dtype) -> Decode:
    counts = [-(-(s.past + 1) // page_size) for s in spans]
    most = max(counts)
    pages = torch.tensor([s.pages[:n] + [s.pages[0]] * (most - n) for s, n in zip(spans, counts, strict=True)])
    lengths = torch.tensor([s.past + 1 for s in spans]).unsqueeze(1)
    beyond = torch.arange(most * page_size).unsqueeze(0) >= lengths
    mask = torch.zeros(beyond.shape, dtype=dtype).masked_fill_(beyond, float("-inf"))
    return Decode(None if rows is None else torch.tensor(rows), pages, mask[:, None, None, :])


def _plan_prefill(span: Span, at: int, page_size: int, dtype: torch.dtype) -> Prefill:
    length = span.past + span.new
    pages = torch.tensor(span.pages[: -(-length // page_size)])
    mask = None
    if span.past:
        beyond = torch.ones((span.new, length), dtype=torch.bool).triu_(span.past + 1)
        mask = torch.zeros(beyond.shape, dtype=dtype).masked_fill_(beyond, float("-inf"))
    return Prefill(at, at + span.new, span.past, pages, mask)


@cache
def fused(dtype: torch.dtype) -> bool:
    """Tells whether this processor and this build of torch run fused attention in `dtype`; tried once."""
    return works("fused attention", _try_out, dtype)


@torch.no_grad()
def _try_out(dtype: torch.dtype) -> None:
    """Computes one step of one layer: a whole prompt, the end of another, and a single token."""
    pages = torch.zeros((3, 4, 1, 16), dtype=dtype)
    layer = LayerCache(pages.view(12, 1, 16), pages.view(12, 1, 16), pages, pages)
    spans = [Span(0, 3, [0]), Span(1, 2, [1]), Span(3, 1, [2])]
    plan = plan_attention({0: layer}, torch.tensor([0, 1, 2, 5, 6, 11]), spans, 4, dtype)
    query, key = torch.ones((1, 2, 6, 16), dtype=dtype), torch.ones((1, 1, 6, 16), dtype=dtype)
    cpu_attention(SimpleNamespace(layer_idx=0), query, key, key, None, paged=plan, scaling=0.25)


AttentionInterface.register(CPU_ATTENTION, cpu_attention)
AttentionMaskInterface.register(CPU_ATTENTION, sdpa_mask)
