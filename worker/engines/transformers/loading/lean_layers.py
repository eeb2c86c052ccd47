"""Decoder layers of our own for CPUs, which compute bit for bit what the library's layers compute, with fewer calls.

What it buys: a step of one stream runs some fifty small operators in each layer, most of which take longer to be called
than to compute. Queries, keys and values come from one product here, and so do the two halves of the MLP; queries and
keys are turned together; a norm is one call; sums go into memory that is there; and no code for training, hooks or
other caches lies between. The figures are in decision 58 of `docs/decisions/engine`.

It is for families whose layers are known to be alike, and only where the first layer's results are equal.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false
# (torch and transformers publish partly unknown types)

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import structlog
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from millstream.worker.engines.transformers.loading.attention import (
    CPU_ATTENTION,
    LayerCache,
    Paged,
    Span,
    attend,
    plan_attention,
)
from millstream.worker.engines.transformers.loading.failures import MODEL_ERRORS
from millstream.worker.engines.transformers.loading.packing import pack_linears

# By name, because importing all of the library's families takes a tenth of a second.
_FAMILIES = frozenset(
    f"transformers.models.{family.lower()}.modeling_{family.lower()}.{family}DecoderLayer"
    for family in ("Llama", "Mistral", "Qwen2", "Qwen3")
)
_ROWS = (1, 7, 16, 128)  # tokens for which a layer is compared: products are computed differently for each
_PAST = 5  # tokens that the compared sequences have read before

log = structlog.stdlib.get_logger(part="engine")


def make_lean(model: PreTrainedModel, *, adapters: bool) -> None:
    """Takes the place of the model's layers, if they are known and compute the same. The products stay apart where
    `adapters` may come beside them. To be called before the weights are packed."""
    decoder: Any = getattr(model, "model", None)
    layers = list(getattr(decoder, "layers", ()))
    if model.config._attn_implementation != CPU_ATTENTION or not layers:
        return
    kinds = {f"{type(layer).__module__}.{type(layer).__qualname__}" for layer in layers}
    if not kinds <= _FAMILIES or any(layer._forward_hooks for layer in layers) or _keeps_state(layers[0]):
        return
    if (why := _difference(layers[0], decoder.rotary_emb, joins=not adapters)) is not None:
        log.warning("layers_not_lean", model=type(model).__name__, why=why)
        return
    decoder.rotary_emb = LeanRotary(decoder.rotary_emb)
    for place, layer in enumerate(layers):
        decoder.layers[place] = LeanLayer(layer, joins=not adapters)


class LeanRotary(nn.Module):
    """Makes a step's rotary factors as `LeanLayer` takes them, once for all layers: `[batch, tokens, 1, width]`, the
    sines of the first half with their sign changed."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cosines, sines = self.original(x, position_ids)
        half = sines.shape[-1] // 2
        signed = torch.cat((-sines[..., :half], sines[..., half:]), -1)
        return cosines.unsqueeze(2), signed.unsqueeze(2)


class LeanLayer(nn.Module):
    """Computes one decoder layer. It takes over the parts of `layer`, which is not to be used any more; if it `joins`
    products, their weights are copied into one, and the old ones are let go."""

    def __init__(self, layer: Any, *, joins: bool) -> None:
        super().__init__()
        self.self_attn, self.mlp = layer.self_attn, layer.mlp
        self.input_layernorm, self.post_attention_layernorm = layer.input_layernorm, layer.post_attention_layernorm
        self._width: int = self.self_attn.head_dim
        self._scale: float = self.self_attn.scaling
        self._place: int = self.self_attn.layer_idx
        config = self.self_attn.config
        self._heads: int = config.num_attention_heads
        self._turned: int = self._heads + config.num_key_value_heads  # heads with a rotary position
        self._norm = _norm_of(self.input_layernorm)
        self._second_norm = _norm_of(self.post_attention_layernorm)
        attention = self.self_attn
        self._attention_joined = joins and _join(attention, "qkv_proj", ("q_proj", "k_proj", "v_proj"))
        self._mlp_joined = joins and _join(self.mlp, "gate_up_proj", ("gate_proj", "up_proj"))
        self._head_norms = _head_norms(attention, self._heads, self._turned) if hasattr(attention, "q_norm") else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        paged: Paged | None = None,
        **_: Any,
    ) -> torch.Tensor:
        """Computes `[batch, tokens, hidden]`: from the pages of a step if it is `paged`, whose batch is 1."""
        assert position_embeddings is not None
        turned, values = self._projected(self._norm(hidden_states), position_embeddings)
        asked, keys = turned[:, :, : self._heads], turned[:, :, self._heads :]
        if paged is not None:
            told = attend(asked[0], keys[0], values[0], paged, paged.layers[self._place], self._scale)
        else:
            told = self._attend_plainly(asked, keys, values, attention_mask, past_key_values)
        middle: torch.Tensor = self.self_attn.o_proj(told.reshape(*hidden_states.shape[:2], -1))
        middle = middle.add_(hidden_states)
        x = self._second_norm(middle)
        if self._mlp_joined:
            both = self.mlp.gate_up_proj(x)
            half = both.shape[-1] // 2
            gate, up = both[..., :half], both[..., half:]
        else:
            gate, up = self.mlp.gate_proj(x), self.mlp.up_proj(x)
        end: torch.Tensor = self.mlp.down_proj(self.mlp.act_fn(gate).mul_(up))
        return end.add_(middle)

    def _projected(
        self, x: torch.Tensor, factors: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns queries and keys as heads of one tensor, turned by their positions, and the values:
        `[batch, tokens, heads, width]`."""
        attention: Any = self.self_attn
        shape = (*x.shape[:2], -1, self._width)
        if self._attention_joined:
            whole = attention.qkv_proj(x).view(shape)
            straight, values = whole[:, :, : self._turned], whole[:, :, self._turned :]
        else:
            straight = torch.cat((attention.q_proj(x).view(shape), attention.k_proj(x).view(shape)), 2)
            values = attention.v_proj(x).view(shape)
        if self._head_norms is not None:
            weight, eps = self._head_norms
            straight = torch.rms_norm(straight, (self._width,), None, eps).mul_(weight)
        cosines, sines = factors
        crossed = torch.roll(straight, self._width // 2, -1).mul_(sines)
        return straight.mul_(cosines).add_(crossed), values

    def _attend_plainly(
        self, asked: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, cache: Any
    ) -> torch.Tensor:
        """Computes attention outside the batch, as the library does it."""
        asked, keys, values = (each.transpose(1, 2) for each in (asked, keys, values))
        if cache is not None:
            keys, values = cache.update(keys, values, self._place)
        return sdpa_attention_forward(self.self_attn, asked, keys, values, mask, scaling=self._scale)[0]


class _Norm:
    """An RMS norm in one call. It is no module: the layer's own norm keeps the weight."""

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        self._weight = weight
        self._shape = (weight.shape[0],)
        self._eps = eps

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.rms_norm(x, self._shape, self._weight, self._eps)


def _norm_of(norm: Any) -> Any:
    """Returns the norm in one call in float32 alone: shorter formats would be rounded in another place."""
    return _Norm(norm.weight.detach(), norm.variance_epsilon) if norm.weight.dtype == torch.float32 else norm


def _head_norms(attention: Any, heads: int, turned: int) -> tuple[torch.Tensor, float]:
    """Returns the weights `[heads of queries and keys, width]` of the norms of single heads."""
    weights = [attention.q_norm.weight.detach()] * heads + [attention.k_norm.weight.detach()] * (turned - heads)
    return torch.stack(weights), attention.q_norm.variance_epsilon


def _join(parent: nn.Module, name: str, parts: tuple[str, ...]) -> bool:
    """Makes one linear layer `name` of several with the same input, and removes them; tells whether it did."""
    layers: list[Any] = [getattr(parent, part) for part in parts]
    if not all(_plain(layer) for layer in layers) or len({layer.bias is None for layer in layers}) > 1:
        return False
    weight = torch.cat([layer.weight.detach() for layer in layers])
    whole = nn.Linear(weight.shape[1], weight.shape[0], bias=layers[0].bias is not None, device="meta")
    whole.weight = nn.Parameter(weight, requires_grad=False)
    if layers[0].bias is not None:
        whole.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in layers]), requires_grad=False)
    for part in parts:
        delattr(parent, part)
    setattr(parent, name, whole)
    return True


def _plain(layer: Any) -> bool:
    """Tells whether the layer's weight is one of plain numbers, not of quantised ones."""
    return type(layer) is nn.Linear and type(layer.weight) is nn.Parameter and layer.weight.is_floating_point()


def _keeps_state(layer: nn.Module) -> bool:
    """Tells whether linear layers of another library are in it, which change with their first call: those of
    bitsandbytes take their weights apart then, and a copy of them must not."""
    return any(isinstance(part, nn.Linear) and type(part) is not nn.Linear for part in layer.modules())


# ------------------------------------------------------------------------------------------------------- the comparison
def _difference(layer: Any, rotary: nn.Module, *, joins: bool) -> str | None:
    """Returns what a lean layer computes differently from `layer`, which stays as it is; None if nothing."""
    shared = (*layer.parameters(), *layer.buffers(), layer.self_attn.config)
    try:
        with torch.inference_mode():
            original, copied = (deepcopy(layer, {id(part): part for part in shared}) for _ in range(2))
            lean = LeanLayer(copied, joins=joins)
            pack_linears(original)
            pack_linears(lean)
            for rows in _ROWS:
                if (where := _first_difference(original, lean, rotary, rows)) is not None:
                    return f"{where}, {rows} tokens"
    except MODEL_ERRORS as error:
        return str(error)
    return None


def _first_difference(original: Any, lean: LeanLayer, rotary: nn.Module, rows: int) -> str | None:
    config, weight = original.self_attn.config, original.input_layernorm.weight
    noise = torch.Generator().manual_seed(rows)  # a generator of its own: the process's numbers are somebody else's
    x = torch.randn((1, rows, config.hidden_size), generator=noise).to(weight.dtype)
    places = torch.arange(_PAST, _PAST + rows).unsqueeze(0)
    theirs, ours = rotary(x, places), LeanRotary(rotary)(x, places)
    for name, (first, second) in _ways(config, rows, weight.dtype, noise):
        told: torch.Tensor = original(x.clone(), position_embeddings=theirs, **first)
        if not torch.equal(told, lean(x.clone(), position_embeddings=ours, **second)):
            return name
    return None


def _ways(
    config: Any, rows: int, dtype: torch.dtype, noise: torch.Generator
) -> Iterable[tuple[str, tuple[dict[str, Any], dict[str, Any]]]]:
    """Yields the ways to ask a layer, each with equal options for both: a prompt's end, single tokens of as many
    sequences, and no pages at all."""
    yield "without pages", ({"attention_mask": None}, {"attention_mask": None})
    for name, spans in (
        ("a prompt", [Span(_PAST, rows, list(range(rows + _PAST)))]),
        ("single tokens", [Span(_PAST, 1, list(range(n, n + 6))) for n in range(rows)]),
    ):
        draw = noise.get_state()
        options = [_paged(config, rows, spans, dtype, noise.set_state(draw)) for _ in range(2)]
        yield name, (options[0], options[1])


def _paged(config: Any, rows: int, spans: list[Span], dtype: torch.dtype, noise: torch.Generator) -> dict[str, Any]:
    """Returns the options of a step over a small cache of random numbers, with pages of one token."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = (rows + _PAST + 1, config.num_key_value_heads, width)
    keys, values = (torch.randn(shape, generator=noise).to(dtype) for _ in range(2))
    cache = LayerCache(keys, values, keys.unsqueeze(1), values.unsqueeze(1))
    write = torch.arange(_PAST, _PAST + rows)
    return {"paged": plan_attention({0: cache}, write, spans, 1, dtype), "attention_mask": None}
